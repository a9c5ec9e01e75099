// In the audio thread: what the microphone hears as 16-bit samples, a tenth of a second at a time.

class Pcm extends AudioWorkletProcessor {
  constructor() {
    super();
    this.length = Math.round(sampleRate / 10);
    this.block = new Int16Array(this.length);
    this.filled = 0;
  }

  process([channels]) {
    const count = channels.length;
    for (let i = 0; i < (channels[0]?.length ?? 0); i++) {
      let sum = 0;
      for (let c = 0; c < count; c++) sum += channels[c][i];
      this.block[this.filled++] = Math.max(-32768, Math.min(32767, Math.round((32768 * sum) / count)));
      if (this.filled === this.length) {
        this.port.postMessage(this.block.buffer, [this.block.buffer]);
        this.block = new Int16Array(this.length);
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("pcm", Pcm);
