// Saving by itself, some time after each change. What others saved meanwhile is never overwritten without being asked for.

import { ask } from "./server.js";

const AFTER = 1000; // milliseconds without a change
const AGAIN = 4000; // after a try that failed

const channel = "BroadcastChannel" in window ? new BroadcastChannel("hvisk") : null;

export class Saver {
  /**
   * job: its id. version: the one that is shown. segments: function that returns what to save.
   * told: called with "saved", "waiting", "saving", "away" (and the Failure) or "conflict" (and the newest version).
   * other: called when another tab has saved and nothing here is lost by taking that.
   */
  constructor(job, version, segments, told, other) {
    Object.assign(this, { job, version, segments, told, other, timer: 0, under: null, changes: 0, conflict: null });
    this.listen = ({ data }) => {
      if (data.job === this.job && data.version > this.version && !this.dirty) this.other();
    };
    channel?.addEventListener("message", this.listen);
  }

  get dirty() {
    return this.changes > 0 || this.under !== null;
  }

  /** Save what has changed, soon. */
  change() {
    this.changes += 1;
    if (this.conflict) return;
    this.told("waiting");
    this.plan(AFTER);
  }

  plan(milliseconds) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.flush(), milliseconds);
  }

  /** Save what has changed, now; resolve to whether all is saved. */
  async flush() {
    clearTimeout(this.timer);
    while (this.under) await this.under;
    if (this.conflict) return false;
    if (!this.changes) return true;
    this.under = this.save();
    const done = await this.under;
    return done && (this.changes ? this.flush() : true);
  }

  async save() {
    const count = this.changes;
    this.told("saving");
    try {
      const json = { version: this.version, segments: this.segments() };
      const { version } = await ask(`jobs/${this.job}/transcript`, { method: "PUT", json });
      this.version = version;
      this.changes -= count;
      channel?.postMessage({ job: this.job, version });
      this.told(this.changes ? "waiting" : "saved");
      return true;
    } catch (failure) {
      if (failure.code === "version_conflict") {
        this.conflict = Number(failure.param);
        this.told("conflict", this.conflict);
      } else {
        this.told("away", failure);
        if (!this.closed) this.plan(AGAIN);
      }
      return false;
    } finally {
      this.under = null;
    }
  }

  /** Save over the version that was in the way: the reader has seen it, and wants this one. */
  overwrite(version) {
    this.version = version;
    this.conflict = null;
    this.changes += 1;
    return this.flush();
  }

  /** Save the rest and let go; resolve to whether all is saved. */
  async close() {
    const done = await this.flush();
    this.closed = true;
    clearTimeout(this.timer);
    channel?.removeEventListener("message", this.listen);
    return done;
  }
}
