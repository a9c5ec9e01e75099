// Amounts as a reader sees them, in either language.

/** Return functions for a language: its code; short words for hours, minutes and seconds; [one, many] of an hour and of a day. */
export function units(code, { h, min, s, hour, day }) {
  const number = (value, digits = 0) => value.toLocaleString(code, { maximumFractionDigits: digits });
  const count = (value, [one, many]) => `${number(value, 1)} ${value === 1 ? one : many}`;
  return {
    number,
    count,
    /** A size: 3.4 MB. */
    bytes(size) {
      const [unit, by] = size < 1e6 ? ["kB", 1e3] : size < 1e9 ? ["MB", 1e6] : ["GB", 1e9];
      return `${number(size / by, size / by < 10 ? 1 : 0)}\u00a0${unit}`;
    },
    /** A time that passes: 1 h 5 min, 12 min, 40 s. */
    span(seconds) {
      if (seconds < 59.5) return `${Math.max(1, Math.round(seconds))}\u00a0${s}`;
      const all = Math.round(seconds / 60);
      const parts = [[Math.floor(all / 60), h], [all % 60, min]];
      return parts.filter(([value]) => value).map(([value, unit]) => `${value}\u00a0${unit}`).join(" ");
    },
    /** A time that something is kept: 24 hours, 30 days. */
    period(seconds) {
      const hours = seconds / 3600;
      return hours < 48 ? count(Math.round(hours * 10) / 10, hour) : count(Math.round(hours / 2.4) / 10, day);
    },
    /** A point of time, seconds since 1970. */
    when: (seconds) =>
      new Date(seconds * 1000).toLocaleString(code, { day: "numeric", month: "long", hour: "2-digit", minute: "2-digit" }),
    /** A date for a file's name. */
    stamp(date) {
      const two = (value) => String(value).padStart(2, "0");
      const parts = [date.getFullYear(), two(date.getMonth() + 1), two(date.getDate())];
      return `${parts.join("-")} ${two(date.getHours())}.${two(date.getMinutes())}`;
    },
  };
}
