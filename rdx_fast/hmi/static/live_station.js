// Lamps, the active job and the alarms.

import { h, keyed, say } from "./dom.js";
import { stream } from "./stream.js";
import { count, t } from "./texts.js";
import { symbol } from "./verdict.js";

const LAMPS = ["camera", "plc", "disk", "heartbeat", "drift"];

export function stationPanel() {
  const lamps = LAMPS.map((name) =>
    h(
      "li",
      { data: { lamp: "off" } },
      h("span", { class: "lamp", "aria-hidden": "true" }),
      h("span", {}, t(`lamp.${name}`)),
      h("em", {}),
    ),
  );
  const name = h("strong", {});
  const checksum = h("code", {});
  const changeover = h("p", { class: "hint" }, h("a", { href: "#/job" }, t("live.changeover")));
  const facts = h("p", { class: "muted" });
  const element = h(
    "section",
    { class: "panel station" },
    h("h2", {}, t("live.job")),
    h("p", { class: "job-name" }, name, checksum),
    changeover,
    h("ul", { class: "lamps" }, lamps),
    facts,
  );

  function draw(status) {
    const job = status?.job;
    say(name, job ? `${job.id} · ${job.name}` : "–");
    say(checksum, job?.sha256?.slice(0, 12) ?? "");
    checksum.title = job?.sha256 ? t("live.checksum", { sha256: job.sha256 }) : "";
    changeover.hidden = !job?.changeover;
    lamps.forEach((lamp, i) => {
      const state = status?.connected && stream.open ? (status.lamps?.[LAMPS[i]] ?? "off") : "off";
      lamp.dataset.lamp = state;
      say(lamp.lastChild, t(`lamp.${state}`));
    });
    const counts = status?.counts ?? {};
    const values = { triggers: count(counts.triggers), missed: count(counts.missed) };
    say(facts, status?.connected ? t("live.since_start", values) : "");
  }
  return { element, draw };
}

/** Each alarm with its cause and its remedy in words. */
export function alarmsList() {
  const list = h("ul", { class: "alarms", "aria-label": t("live.alarms") });
  const draw = (alarms) => keyed(list, alarms, (alarm) => alarm.code, alarmRow);
  return { element: list, draw };
}

const alarmRow = ({ code, number, detail }) =>
  h(
    "li",
    {},
    symbol("ERROR"),
    h("strong", {}, t(`alarm.${code}.cause`)),
    h("span", {}, t(`alarm.${code}.remedy`)),
    h("small", {}, [number ? `${code} ${number}` : code, detail].filter(Boolean).join(" · ")),
  );
