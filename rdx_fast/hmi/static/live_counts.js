// Counters, yield and rejects by job and shift.

import { h } from "./dom.js";
import { count, percent, shortClock, t } from "./texts.js";
import { RESULTS } from "./verdict.js";

export function countsPanel() {
  const figures = h("dl", { class: "figures" });
  const rows = h("tbody", {});
  const head = ["shift", "job", "parts", "yield"].map((name) =>
    h("th", { scope: "col" }, t(`column.${name}`)),
  );
  const element = h(
    "section",
    { class: "panel counts" },
    h("h2", {}, t("live.counts")),
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

  /** @param counts rows of the current and the previous shift; @param job the active one */
  function draw(counts, job) {
    const sorted = [...counts].sort((a, b) =>
      a.shift < b.shift ? 1 : a.shift > b.shift ? -1 : a.job - b.job,
    );
    const now = sorted[0]?.shift;
    const current = sorted.find((row) => row.shift === now && row.job === job) ?? sorted[0];
    const entry = (name, value, result) =>
      h("div", { data: { result } }, h("dt", {}, name), h("dd", {}, value));
    figures.replaceChildren(
      entry(t("column.yield"), percent(current?.yield)),
      entry(t("column.parts"), count(current?.parts ?? 0)),
      entry("NG", count(current?.NG ?? 0), "NG"),
      entry("REVIEW", count(current?.REVIEW ?? 0), "REVIEW"),
      entry("ERROR, LATE", count((current?.ERROR ?? 0) + (current?.LATE ?? 0)), "ERROR"),
    );
    rows.replaceChildren(
      ...sorted.map((row) =>
        h(
          "tr",
          { class: row.shift === now ? "now" : "" },
          h(
            "td",
            {},
            t(row.shift === now ? "live.shift_now" : "live.shift_before", {
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
