// How a candidate compares with the bundle that was released when it was made.

import { h } from "./dom.js";
import { count, moment, number, t } from "./texts.js";
import { badge } from "./verdict.js";

const SETS = ["frozen", "labelled", "unseen"];
const COUNTS = { false_rejects: "good", good_reviews: "good", escapes: "bad", bad_reviews: "bad" };

export function comparisonTable(comparison, folded) {
  const sets = SETS.filter((name) => comparison[name]);
  const head = sets.map((name) =>
    h(
      "th",
      { scope: "col" },
      t(`comparison.${name}`),
      h(
        "small",
        {},
        t("comparison.images", {
          good: count(comparison[name].good),
          bad: count(comparison[name].bad),
        }),
      ),
    ),
  );
  const counts = Object.entries(COUNTS).map(([name, of]) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, t(`comparison.${name}`)),
      sets.map((set) => change(comparison[set], name, of)),
    ),
  );
  const notes = [
    ...comparison.notes,
    ...(comparison.disputed.length
      ? [t("comparison.disputed", { n: count(comparison.disputed.length) })]
      : []),
    ...(comparison.missing.length
      ? [t("comparison.missing", { n: count(comparison.missing.length) })]
      : []),
  ];
  return h(
    "details",
    { class: "comparison", open: !folded },
    h(
      "summary",
      {},
      t("comparison.title", {
        sha256: comparison.old_sha256.slice(0, 12),
        time: moment(comparison.time),
      }),
    ),
    h(
      "div",
      { class: "scroll" },
      h(
        "table",
        { class: "plain" },
        h("thead", {}, h("tr", {}, h("td", {}), head)),
        h(
          "tbody",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "row" }, t("comparison.auroc")),
            sets.map((set) => areaCell(comparison[set].auroc)),
          ),
          counts,
        ),
      ),
    ),
    judged("again_rejected", comparison.again_rejected),
    judged("escaped", comparison.escaped),
    h(
      "p",
      { class: "muted" },
      t("comparison.training", {
        images: count(comparison.images),
        parts: count(comparison.trained_on.length),
        steps: count(comparison.steps),
      }),
    ),
    notes.length
      ? h(
          "ul",
          { class: "muted" },
          notes.map((text) => h("li", {}, text)),
        )
      : null,
  );
}

/** Old and new AUROC; a difference counts as one only if its interval leaves out zero. */
function areaCell(auroc) {
  if (!auroc) return h("td", {}, "–");
  const better = auroc.low > 0 ? "better" : auroc.high < 0 ? "worse" : "same";
  const signed = (value) => `${value > 0 ? "+" : ""}${number(value, 2)}`;
  return h(
    "td",
    { data: { change: better } },
    `${number(auroc.old, 4)} → ${number(auroc.new, 4)}`,
    h(
      "small",
      {},
      t("comparison.difference", {
        difference: signed(auroc.difference),
        low: signed(auroc.low),
        high: signed(auroc.high),
      }),
    ),
  );
}

function change(set, name, of) {
  const [before, now] = [set.old[name], set.new[name]];
  const better = now < before ? "better" : now > before ? "worse" : "same";
  return h(
    "td",
    { data: { change: better } },
    `${count(before)} → ${count(now)}`,
    h("small", {}, t("comparison.of", { n: count(set[of]) })),
  );
}

/** Labelled parts that the candidate judges otherwise than people do. */
function judged(name, parts) {
  if (!parts.length) return h("p", {}, t(`comparison.no_${name}`));
  const entry = (part) =>
    h(
      "li",
      {},
      h("a", { href: `#/part/${part.inspection_id}` }, String(part.inspection_id)),
      badge(part.old_verdict),
      "→",
      badge(part.verdict),
      part.trained_on ? h("small", {}, t("comparison.trained_on")) : null,
    );
  return h(
    "div",
    {},
    h("p", {}, h("strong", {}, t(`comparison.${name}`, { n: count(parts.length) }))),
    h("ul", { class: "judged" }, parts.slice(0, 50).map(entry)),
  );
}
