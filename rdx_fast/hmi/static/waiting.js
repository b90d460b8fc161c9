// How many parts wait for this user's label.

import { get, isUser } from "./api.js";

const listeners = new Set();

/** Call `listener` with the number, null without a user. Returns how to stop. */
export function onWaiting(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Ask again, such as after a label. */
export async function countWaiting() {
  if (document.hidden) return;
  const waiting = isUser() ? (await get("/api/queue", { limit: 1 })).waiting : null;
  for (const listener of listeners) listener(waiting);
}
