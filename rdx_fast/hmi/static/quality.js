// What labels say about escapes, rejects and reviews.

import { get, query, session } from "./api.js";
import { interval } from "./chart.js";
import { field, h, select } from "./dom.js";
import { complain } from "./notes.js";
import { count, moment, percent, t } from "./texts.js";

const DAYS = [1, 7, 30, 365];

export function open(root, { query: given }) {
  const job = select(
    session.jobs.map(({ id, name }) => [String(id), `${id} · ${name}`]),
    given.get("job") ?? String(session.jobs[0]?.id ?? ""),
  );
  const days = select(
    DAYS.map((n) => [String(n), t(n === 1 ? "quality.day" : "quality.days", { n })]),
    given.get("days") ?? "7",
  );
  const cards = h("div", { class: "cards" });
  root.append(
    h("h1", {}, t("quality.title")),
    h("p", { class: "lead" }, t("quality.lead")),
    h(
      "form",
      { class: "bar", onsubmit: (event) => event.preventDefault() },
      field(t("column.job"), job),
      field(t("quality.period"), days),
    ),
    cards,
  );
  let closed = false;

  async function load() {
    const since = new Date(Date.now() - 86400000 * Number(days.value)).toISOString();
    history.replaceState(null, "", `#/quality${query({ job: job.value, days: days.value })}`);
    try {
      const told = await get("/api/quality", { job: job.value, since });
      if (!closed) cards.replaceChildren(...drawn(told));
    } catch (error) {
      if (!closed) complain(error);
    }
  }
  job.addEventListener("change", load);
  days.addEventListener("change", load);
  load();
  return () => (closed = true);
}

function drawn(q) {
  const unlabelled = q.sampled_ok - q.sampled_ok_labelled - q.sampled_ok_disputed;
  const share = (n, of) => (of ? n / of : null);
  return [
    card("escapes", {
      value: q.escape_rate,
      low: q.escape_low,
      high: q.escape_high,
      counted: [
        t("quality.escapes_counted", {
          n: count(q.escapes),
          of: count(q.sampled_ok_labelled),
        }),
        q.sampled_ok_disputed > 0
          ? t("quality.escapes_disputed", { n: count(q.sampled_ok_disputed) })
          : "",
      ].join(" "),
      hint:
        unlabelled > 0
          ? [
              t("quality.escapes_hint", { n: count(unlabelled), of: count(q.sampled_ok) }),
              "#/label",
            ]
          : null,
      empty: q.sampled_ok_labelled === 0,
    }),
    card("rejects", {
      value: q.false_reject_share,
      low: q.false_reject_low,
      high: q.false_reject_high,
      counted: t("quality.rejects_counted", {
        n: count(q.false_rejects),
        of: count(q.rejects_labelled),
      }),
      hint: q.rejects_labelled < 30 ? [t("quality.rejects_hint"), "#/label"] : null,
      empty: q.rejects_labelled === 0,
    }),
    card("reviews", {
      value: q.review_share,
      low: q.review_low,
      high: q.review_high,
      counted: t("quality.reviews_counted", { n: count(q.reviews), of: count(q.verdicts) }),
      empty: q.verdicts === 0,
    }),
    card("agreement", {
      value: q.agreement,
      low: q.agreement_low,
      high: q.agreement_high,
      counted: t("quality.agreement_counted", {
        n: count(q.agreements),
        of: count(q.labelled_twice),
      }),
      hint: q.labelled_twice === 0 ? [t("quality.agreement_hint"), "#/label"] : null,
      empty: q.labelled_twice === 0,
    }),
    card("sample", {
      value: share(q.sampled, q.parts),
      low: null,
      high: null,
      counted: t("quality.sample_counted", { n: count(q.sampled), of: count(q.parts) }),
      hint: q.parts > 0 && q.sampled === 0 ? [t("quality.sample_hint"), null] : null,
      empty: q.parts === 0,
    }),
    again(q.again_rejected, q.compared),
  ];
}

function card(name, { value, low, high, counted, hint = null, empty }) {
  const known = low !== null && low !== undefined && !empty;
  const end = known ? Math.min(1, Math.max(0.02, 1.25 * high)) : 1;
  return h(
    "section",
    { class: "panel card" },
    h("h2", {}, t(`quality.${name}`)),
    h("p", { class: "big" }, empty ? t("quality.unknown") : percent(value)),
    known ? interval(value, low, high, end) : null,
    known
      ? h(
          "p",
          { class: "ends", "aria-hidden": "true" },
          h("span", {}, percent(0)),
          h("span", {}, percent(end, 2)),
        )
      : null,
    known ? h("p", {}, t("quality.interval", { low: percent(low), high: percent(high) })) : null,
    h("p", {}, counted),
    h("p", { class: "muted" }, t(`quality.${name}_meaning`)),
    hint &&
      h(
        "p",
        { class: "hint" },
        `${hint[0]} `,
        hint[1] ? h("a", { href: hint[1] }, t("quality.to_queue")) : null,
      ),
  );
}

/** Parts that people called good and that the released bundle rejects all the same. */
function again(ids, compared) {
  const asOf = ({ time, current }) =>
    h("p", {}, t(current ? "quality.again_as_of" : "quality.again_before", { time: moment(time) }));
  const entry = (id) => h("li", {}, h("a", { href: `#/part/${id}` }, String(id)));
  return h(
    "section",
    { class: "panel card" },
    h("h2", {}, t("quality.again")),
    h("p", { class: "big" }, compared.length ? count(ids.length) : t("quality.unknown")),
    h("ul", { class: "inline" }, ids.slice(0, 30).map(entry)),
    compared.length ? compared.map(asOf) : h("p", {}, t("quality.again_unknown")),
    h("p", { class: "muted" }, t("quality.again_meaning")),
  );
}
