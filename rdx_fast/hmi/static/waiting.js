// How many parts wait for this user's label.

import { get, isUser } from "./api.js";

let told = () => {};

export const onWaiting = (listener) => (told = listener);

/** Ask again, such as after a label. */
export async function countWaiting() {
  if (document.hidden) return;
  told(isUser() ? (await get("/api/queue", { limit: 1 })).waiting : null);
}
