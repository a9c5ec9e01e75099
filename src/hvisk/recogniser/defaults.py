"""What `hvisk transcribe` and `hvisk.load(...).transcribe` do where nothing else is asked for."""

MODEL = "rasgaard/whisper-tiny.da"  # on the Hub: OpenAI's tiny, trained on CoRal by Rasmus Gaard, until there is ours
LANGUAGE = "da"
BEAM_SIZE = 5  # texts followed at once
VAD = True  # leave out what is not speech
