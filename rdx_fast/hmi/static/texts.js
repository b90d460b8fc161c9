// Texts in the chosen language; numbers and times as it writes them.

let all = { en: {} };
let chosen = "en";

/** Take the texts of all languages, and choose one. */
export function setTexts(texts, preferred) {
  all = texts;
  choose(localStorage.getItem("language") ?? preferred);
}

/** Choose a language that there is. */
export function choose(language) {
  chosen = language in all ? language : "en";
  document.documentElement.lang = chosen;
}

export const language = () => chosen;

/** [code, name] of each language. */
export const languages = () =>
  Object.keys(all).map((code) => [
    code,
    new Intl.DisplayNames([code], { type: "language", fallback: "code" }).of(code),
  ]);

export const has = (key) => key in all[chosen] || key in all.en;

/** The text of a key, with `{name}` replaced by values. A language that lacks it shows English. */
export function t(key, values = {}) {
  const text = all[chosen][key] ?? all.en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** A number with so many significant digits; a dash where there is none. */
export function number(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  return new Intl.NumberFormat(chosen, {
    maximumSignificantDigits: digits,
    minimumSignificantDigits: Number.isInteger(value) ? 1 : digits,
  }).format(value);
}

export const count = (value) =>
  value === null || value === undefined ? "–" : new Intl.NumberFormat(chosen).format(value);

/** A share of 0 to 1 in percent. */
export function percent(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  const options = { style: "percent", maximumSignificantDigits: digits };
  return new Intl.NumberFormat(chosen, options).format(value);
}

const format = (iso, options) =>
  iso
    ? new Intl.DateTimeFormat(chosen, { hourCycle: "h23", ...options }).format(new Date(iso))
    : "–";

export const clock = (iso) => format(iso, { timeStyle: "medium" });
export const moment = (iso) => format(iso, { dateStyle: "medium", timeStyle: "medium" });
export const shortClock = (iso) => format(iso, { timeStyle: "short" });

/** An age in ms as "3 s ago". */
export function ago(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 100) return t("time.seconds_ago", { n: seconds });
  if (seconds < 6000) return t("time.minutes_ago", { n: Math.round(seconds / 60) });
  if (seconds < 172800) return t("time.hours_ago", { n: Math.round(seconds / 3600) });
  return t("time.days_ago", { n: Math.round(seconds / 86400) });
}

/** A reason from the configuration, translated where it is one of the usual ones. */
export const reasonText = (reason) => (has(`reason.${reason}`) ? t(`reason.${reason}`) : reason);
