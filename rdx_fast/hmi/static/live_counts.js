// Counters, yield and rejects by job and shift.

import { h, say } from "./dom.js";
import { count, percent, shortClock, t } from "./texts.js";
import { RESULTS } from "./verdict.js";

export function countsPanel() {
  const title = h("h2", {});
  const figures = h("dl", { class: "figures" });
  const rows = h("tbody", {});
  const head = ["shift", "job", "parts", "yield"].map((name) =>
    h("th", { scope: "col" }, t(`column.${name}`)),
  );
  const element = h(
    "section",
    { class: "panel counts" },
    title,
    figures,
    h(
      "div",
      { class: "scroll" },
      h(
        "table",
        { class: "plain" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            head,
            RESULTS.slice(1).map((r) => h("th", { scope: "col" }, r)),
          ),
        ),
        rows,
      ),
    ),
  );

  /**
   * @param counts rows of the current and the previous shift, in the order of the server
   * @param job the active one, which has no row in a shift before its first part
   */
  function draw(counts, job) {
    const current = counts.find((row) => row.now && row.job === job);
    const parts = (...results) =>
      job === undefined
        ? "–"
        : count(results.reduce((sum, result) => sum + (current?.[result] ?? 0), 0));
    const entry = (name, value, result) =>
      h("div", { data: { result } }, h("dt", {}, name), h("dd", {}, value));
    const ofJob = job === undefined ? "" : ` · ${t("column.job")} ${job}`;
    say(title, t("live.counts") + ofJob);
    figures.replaceChildren(
      entry(t("column.yield"), percent(current?.yield)),
      entry(t("column.parts"), parts("parts")),
      entry("NG", parts("NG"), "NG"),
      entry("REVIEW", parts("REVIEW"), "REVIEW"),
      entry("ERROR, LATE", parts("ERROR", "LATE"), "ERROR"),
    );
    rows.replaceChildren(
      ...counts.map((row) =>
        h(
          "tr",
          { class: row.now ? "now" : "" },
          h(
            "td",
            {},
            t(row.now ? "live.shift_now" : "live.shift_before", {
              time: shortClock(row.shift),
            }),
          ),
          h("td", {}, String(row.job)),
          h("td", { class: "figure" }, count(row.parts)),
          h("td", { class: "figure" }, percent(row.yield)),
          RESULTS.slice(1).map((result) => h("td", { class: "figure" }, count(row[result]))),
        ),
      ),
    );
  }
  return { element, draw };
}
