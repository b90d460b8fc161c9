// How a verdict looks: colour, word and symbol.

import { h, svg } from "./dom.js";
import { t } from "./texts.js";

export const RESULTS = ["OK", "REVIEW", "NG", "ERROR", "LATE"];

// In a square of 24.
const PATHS = {
  OK: "M4 12.5 9.5 18 20 6.5",
  NG: "M5.5 5.5l13 13M18.5 5.5l-13 13",
  REVIEW: "M7.5 8.5a4.5 4.5 0 1 1 6.6 4c-1.5.8-2.1 1.6-2.1 3.2M12 20v.1",
  ERROR: "M12 3.5 21.5 20h-19ZM12 9.5v5M12 17.2v.1",
  LATE: "M12 3a9 9 0 1 0 0 18 9 9 0 1 0 0-18M12 7.5V12l3.5 2.5",
  AWAY: "M5 12h14",
};

/** The symbol of a result. */
export function symbol(result) {
  const path = svg("path", { d: PATHS[result] ?? PATHS.AWAY });
  return svg("svg", { viewBox: "0 0 24 24", class: "symbol", "aria-hidden": "true" }, path);
}

/** A small label with a result's symbol and word. */
export const badge = (result) =>
  h("span", { class: "badge", data: { result } }, symbol(result), result);

/** A label of people's judgement: "good", "bad", "disputed". */
export function agreedBadge(agreed) {
  if (!agreed) return null;
  return h("span", { class: "agreed", data: { agreed } }, t(`agreed.${agreed}`));
}
