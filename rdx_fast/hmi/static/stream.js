// What the station does now, as the server streams it. One stream serves all views.

import { isUser, refreshSession, serverNow, session } from "./api.js";

const SILENCE_MS = 12000; // the server sends a status every 5 s
const HIDDEN_MS = 10000; // so long the stream of a hidden page stays open
const RECENT = 20;
const STRIP = 12;
const TREND = 200;

/** State: `open` is false while the stream is broken; then nothing else is current. */
export const stream = {
  open: false,
  begun: false, // a snapshot has arrived since the page was opened
  status: null,
  recent: [],
  strip: [],
  trend: [],
  counts: [],
};

const listeners = new Set();
let source = null;
let heard = 0;
let retryMs = 1000;
let timer = 0;

/** Call `listener` with what changed: "link", "status", "parts", "counts". Returns how to stop. */
export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

const tell = (what) => listeners.forEach((listener) => listener(what));

/** Open the stream unless it is, and keep it open. */
export function start() {
  if (source || (!isUser() && !session.anonymous)) return;
  clearTimeout(timer);
  heard = Date.now();
  source = new EventSource("/api/live");
  for (const [name, take] of Object.entries(TAKEN)) {
    source.addEventListener(name, (event) => {
      heard = Date.now();
      take(JSON.parse(event.data));
      tell(name === "snapshot" ? "parts" : name);
    });
  }
  source.onerror = broken;
}

const TAKEN = {
  snapshot(told) {
    Object.assign(stream, told, { open: true, begun: true });
    retryMs = 1000;
    tell("link");
    tell("status");
    tell("counts");
  },
  status: (told) => (stream.status = told),
  counts: (told) => (stream.counts = told),
  parts(told) {
    for (const part of told) take(part);
  },
};

function take(part) {
  const id = part.inspection_id;
  stream.recent = placed(stream.recent, part).slice(0, RECENT);
  if (["NG", "REVIEW"].includes(part.result) && part.has_frame) {
    stream.strip = placed(stream.strip, part).slice(0, STRIP);
  }
  // A part comes again with its label, also one that is older than all of the trend.
  if (part.score === null || id < stream.trend[0]?.[0]) return;
  const trend = stream.trend.filter((row) => row[0] !== id);
  const place = trend.findLastIndex((row) => row[0] < id) + 1;
  trend.splice(place, 0, [id, part.score, part.threshold, part.ng_above, part.result]);
  stream.trend = trend.slice(-TREND);
}

/** The list, newest first, with a part that is new or changed. */
function placed(list, part) {
  const others = list.filter((one) => one.inspection_id !== part.inspection_id);
  const place = others.findIndex((one) => one.inspection_id < part.inspection_id);
  others.splice(place < 0 ? others.length : place, 0, part);
  return others;
}

function broken() {
  source?.close();
  source = null;
  if (stream.open) {
    stream.open = false;
    tell("link");
  }
  clearTimeout(timer);
  timer = setTimeout(again, retryMs);
  retryMs = Math.min(2 * retryMs, 10000);
}

async function again() {
  // A stream is also refused where the session has expired: ask, since it does not say so.
  try {
    await refreshSession();
  } catch {
    broken();
    return;
  }
  start();
}

// A page that was left may be kept by the browser, and with it one of the few connections that it
// opens to a server. One in a hidden tab needs none either.
function rest() {
  clearTimeout(timer);
  source?.close();
  source = null;
  stream.open = stream.begun = false;
  tell("link");
}

let hiding = 0;
addEventListener("pagehide", rest);
addEventListener("pageshow", (event) => event.persisted && again());
document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.hidden) hiding = setTimeout(rest, HIDDEN_MS);
  else if (!source) again();
});

setInterval(() => {
  if (source && Date.now() - heard > SILENCE_MS) broken();
}, 1000);

/** The station answers, but nothing is known of its parts. */
export const isUnreadable = () =>
  stream.status?.alarms?.some((alarm) => alarm.code === "RECORDS_UNREADABLE") === true;

/** The station's verdicts are current: the stream is open, the station answers, records are read. */
export const isCurrent = () => stream.open && stream.status?.connected === true && !isUnreadable();

/** The newest part; null before the first. */
export const newest = () => stream.recent[0] ?? null;

/** Age of a part in ms. */
export const ageOf = (part) => serverNow() - Date.parse(part.triggered_at);
