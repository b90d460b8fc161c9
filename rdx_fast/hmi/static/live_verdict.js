// The last verdict, readable at two metres, and whether it is current.

import { isUser, session } from "./api.js";
import { h, say } from "./dom.js";
import { ageOf, isCurrent, isUnreadable, newest, stream } from "./stream.js";
import { ago, t } from "./texts.js";
import { symbol } from "./verdict.js";

const OLD_MS = 30000; // then the verdict is shown as an old one
const AHEAD_MS = 5000; // a part from so far ahead was triggered before the clock was set back

export class VerdictPanel {
  constructor() {
    this.symbol = h("span", { class: "verdict-symbol" });
    this.word = h("strong", {});
    this.meaning = h("p", { class: "verdict-meaning" });
    this.part = h("p", { class: "verdict-part" });
    this.age = h("p", { class: "verdict-age" });
    this.element = h(
      "section",
      { class: "verdict", "aria-label": t("live.verdict") },
      h(
        "div",
        { class: "verdict-box" },
        h("p", { class: "verdict-word" }, this.symbol, this.word),
        this.meaning,
        this.part,
        this.age,
      ),
    );
  }

  draw() {
    const part = newest();
    const isLocked = !isUser() && !session.anonymous;
    const away = isLocked
      ? "session"
      : !stream.open
        ? "link"
        : !stream.status?.connected
          ? "station"
          : isUnreadable()
            ? "records"
            : null;
    const ms = part ? ageOf(part) : 0;
    const isAhead = ms < -AHEAD_MS;
    const age = isAhead ? t("live.clock_set_back") : ago(ms);
    const shown = isCurrent() && part ? part.result : "AWAY";
    const state = away ? "away" : !part ? "none" : isAhead || ms > OLD_MS ? "old" : "fresh";
    Object.assign(this.element.dataset, { result: shown, state });
    if (this.symbol.dataset.result !== shown) {
      this.symbol.dataset.result = shown;
      this.symbol.replaceChildren(symbol(shown));
    }
    if (away || !part) {
      say(this.word, away ? t(`live.away_${away}`) : t("live.none"));
      say(this.meaning, away ? t(`live.away_${away}_meaning`) : t("live.waiting"));
      const last = part && t("live.last", { result: part.result, part: part.part_id, age });
      say(this.part, "");
      say(this.age, last ?? "");
      return;
    }
    say(this.word, part.result);
    const error = part.error && t(`alarm.${part.error}.cause`);
    say(this.meaning, error || t(`result.${part.result}`));
    say(this.part, t("live.part", { part: part.part_id }));
    say(this.age, state === "old" && !isAhead ? t("live.no_part_for", { age }) : age);
  }
}
