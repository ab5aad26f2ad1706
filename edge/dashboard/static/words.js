// The words and numbers people read, in one place.

export const STATES = {
  disarmed: "Disarmed",
  armed: "Armed",
  acting: "Acting",
  hold: "Holding",
  stopped: "Stopped",
  fault: "Fault",
};

const CAUSES = {
  no_frames: "no frames arrive",
  late: "frames arrive late",
  frozen: "the picture is frozen",
  black: "the picture is black",
  white: "the picture is white",
  covered: "the lens is covered",
  resized: "the picture size changed",
  unfamiliar: "something unfamiliar is in view",
  unexpected: "something moved in an unexpected way",
};

export const KINDS = { alarm: "Alarm", clear: "Clear", state: "State", goal: "Goal" };

export function cause(name) {
  return CAUSES[name] || name.replaceAll("_", " ");
}

// Headline and reason of a state message: the robot's state, or for a camera alone what it sees.
export function headline(message, hasMotors) {
  const alarmed = Boolean(message.surprise && message.surprise.alarmed);
  if (hasMotors) {
    // A camera fault is in the supervisor's own reason; a surprise is not, because the robot may go on.
    const parts = alarmed && !message.faults.length ? [`Alarm: ${cause(message.surprise.cause)}`] : [];
    if (message.reason) parts.push(message.reason);
    const word = STATES[message.state] || message.state;
    return { key: message.state, word, reason: parts.join(" · "), alarmed };
  }
  if (message.faults.length) {
    return { key: "fault", word: "Camera fault", reason: list(message.faults.map(cause)), alarmed };
  }
  if (alarmed) return { key: "alarm", word: "Alarm", reason: cause(message.surprise.cause), alarmed };
  if (!message.surprise) return { key: "waiting", word: "Learning", reason: message.reason || "no verdict yet", alarmed };
  return { key: "normal", word: "Normal", reason: message.reason || "nothing surprising in view", alarmed };
}

export function list(parts) {
  return parts.join(", ");
}

export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export function fixed(value, digits) {
  if (value === null || value === undefined) return "–";
  // A minus sign as wide as a digit, and no minus zero.
  const text = value.toFixed(digits);
  return Number(text) === 0 ? (0).toFixed(digits) : text.replace("-", "\u2212");
}

export function ms(value) {
  if (value === null || value === undefined) return "–";
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export function significant(value) {
  if (value === null || value === undefined) return "–";
  if (value !== 0 && (Math.abs(value) >= 1e5 || Math.abs(value) < 1e-4)) return value.toExponential(1).replace("-", "\u2212");
  return Number(value.toPrecision(3)).toString().replace("-", "\u2212");
}

export function age(milliseconds) {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 100) return `${seconds.toFixed(1)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

export function count(value) {
  return value.toLocaleString("en-US").replaceAll(",", "\u202f");
}

export function size(bytes) {
  const units = ["B", "kB", "MB", "GB"];
  let at = 0;
  while (bytes >= 1000 && at < units.length - 1) {
    bytes /= 1000;
    at += 1;
  }
  return `${at ? bytes.toPrecision(3) : bytes} ${units[at]}`;
}

export function clockTime(date) {
  return date.toLocaleTimeString([], { hour12: false });
}
