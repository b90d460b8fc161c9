"use strict";
// Moves the limits. Without it the page shows what holds at the limits of the bundle.
// The texts are those of rdx_fast/report/shown.py.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const VERDICTS = ["OK", "REVIEW", "NG"];
  const KINDS = ["good", "defective"];
  const scores = Float32Array.from(data.scores);
  const kindOf = data.types.map((type) => (type < 0 ? 0 : 1));
  const total = [0, 1].map((kind) => kindOf.filter((k) => k === kind).length);
  const curve = data.pro && {
    values: Float32Array.from(data.pro.values),
    fpr: data.pro.fpr,
    overlap: data.pro.overlap,
  };
  const names = data.limits.ok === data.limits.ng ? ["ng"] : ["ok", "ng"];
  const limits = { ...data.limits };

  const text = (limit) => limit.toFixed(data.digits);
  const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)}%`;
  const above = (limit) => (score) => score > Math.fround(limit);
  const verdictOf = (score) => above(limits.ok)(score) + above(limits.ng)(score);

  function interval(count, of) {
    const z = data.z;
    const share = count / of;
    const middle = (2 * count + z * z) / (2 * (of + z * z));
    const half = (z * Math.sqrt(4 * count * (1 - share) + z * z)) / (2 * (of + z * z));
    const low = count === 0 ? 0 : middle - half;
    const high = count === of ? 1 : middle + half;
    return `${(100 * low).toFixed(1)} to ${percent(high)}`;
  }

  function pointOf(limit) {
    const { values } = curve;
    const after = values.findIndex((value) => value > limit);
    return [curve.fpr, curve.overlap].map((shares) => {
      if (after < 0) return values.at(-1) === limit ? shares.at(-1) : 0;
      if (after === 0) return shares[0];
      const slope = (shares[after] - shares[after - 1]) / (values[after] - values[after - 1]);
      return slope * (limit - values[after - 1]) + shares[after - 1];
    });
  }

  function counted() {
    const confusion = KINDS.map(() => [0, 0, 0]);
    const byType = Array.from({ length: data.typeCount }, () => [0, 0, 0]);
    scores.forEach((score, i) => {
      const verdict = verdictOf(score);
      confusion[kindOf[i]][verdict] += 1;
      if (kindOf[i]) byType[data.types[i]][verdict] += 1;
    });
    return { confusion, byType };
  }

  function shown({ confusion, byType }) {
    const found = { "limit.ok": text(limits.ok), "limit.ng": text(limits.ng) };
    const rate = (name, count, of) => {
      if (!of) return;
      found[`${name}.count`] = String(count);
      found[`${name}.rate`] = percent(count / of);
      found[`${name}.interval`] = interval(count, of);
    };
    rate("false_rejects", confusion[0][2], total[0]);
    rate("escapes", confusion[1][0], total[1]);
    rate("detected", confusion[1][2], total[1]);
    rate("review", confusion[0][1] + confusion[1][1], total[0] + total[1]);
    KINDS.forEach((kind, k) => {
      rate(`above_ok.${kind}`, confusion[k][1] + confusion[k][2], total[k]);
    });
    VERDICTS.forEach((verdict, v) => {
      KINDS.forEach((kind, k) => {
        found[`confusion.${kind}.${verdict}`] = String(confusion[k][v]);
      });
      found[`confusion.all.${verdict}`] = String(confusion[0][v] + confusion[1][v]);
    });
    byType.forEach((counts, k) => {
      VERDICTS.forEach((verdict, v) => {
        found[`type.${k}.${verdict}`] = String(counts[v]);
      });
      found[`type.${k}.rate`] = percent(counts[2] / (counts[0] + counts[1] + counts[2]));
    });
    if (curve) {
      for (const name of ["ok", "ng"]) {
        const [fpr, overlap] = pointOf(limits[name]);
        found[`pro.${name}.fpr`] = percent(fpr, 2);
        found[`pro.${name}.overlap`] = percent(overlap);
      }
    }
    return found;
  }

  function move(name, x, y) {
    for (const part of document.querySelectorAll(`[data-moves="${name}"]`)) {
      const { x: fromX, y: fromY, perX, perY } = part.dataset;
      part.setAttribute("transform", `translate(${(x - fromX) * perX} ${(y - fromY) * perY})`);
    }
  }

  function moveCharts() {
    for (const name of names) {
      const limit = limits[name];
      const { min, max } = document.getElementById(`slider-${name}`);
      move(`limit-${name}`, Math.min(Math.max(limit, min), max), 0);
      const shares = KINDS.map((_, kind) => {
        const count = scores.filter((score, i) => kindOf[i] === kind && above(limit)(score)).length;
        return count / total[kind];
      });
      move(`roc-${name}`, ...shares);
      if (curve) {
        const [fpr, overlap] = pointOf(limit);
        move(`pro-${name}`, Math.min(fpr, data.fprLimit), overlap);
      }
    }
  }

  const cards = new Map();
  for (const card of document.querySelectorAll(".card")) cards.set(+card.dataset.image, card);

  // Which gallery an image is in, and its place there.
  function place(i) {
    const verdict = verdictOf(scores[i]);
    if (verdict === 1) return ["review", -scores[i]];
    if (kindOf[i] === 1 && verdict === 0) return ["escapes", scores[i]];
    if (kindOf[i] === 0 && verdict === 2) return ["false_rejects", -scores[i]];
    return ["near", Math.abs(scores[i] - Math.fround(verdict ? limits.ng : limits.ok))];
  }

  function arrange({ confusion }) {
    const ordered = [...cards.keys()].map((i) => [i, ...place(i)]);
    ordered.sort((a, b) => a[2] - b[2] || a[0] - b[0]);
    const totals = {
      escapes: confusion[1][0],
      false_rejects: confusion[0][2],
      review: confusion[0][1] + confusion[1][1],
    };
    const texts = {};
    for (const list of document.querySelectorAll("[data-gallery]")) {
      const key = list.dataset.gallery;
      if (key === "rest") continue;
      const inside = ordered.filter((entry) => entry[1] === key).slice(0, data.gallery);
      inside.forEach(([i], k) => {
        if (list.children[k] !== cards.get(i)) list.insertBefore(cards.get(i), list.children[k] || null);
      });
      const extra = [...list.children].slice(inside.length);
      document.querySelector('[data-gallery="rest"]').append(...extra);
      texts[`gallery.${key}`] = `${inside.length} of ${totals[key]}`;
    }
    for (const [i, card] of cards) {
      const verdict = VERDICTS[verdictOf(scores[i])];
      const badge = card.querySelector(".badge");
      badge.textContent = verdict;
      badge.className = `badge ${verdict}`;
    }
    return texts;
  }

  function update() {
    const counts = counted();
    const texts = { ...shown(counts), ...arrange(counts) };
    for (const element of document.querySelectorAll("[data-value]")) {
      const found = texts[element.dataset.value];
      if (element.textContent !== found) element.textContent = found;
    }
    moveCharts();
    for (const name of names) {
      document.getElementById(`number-${name}`).value = text(limits[name]);
      document.getElementById(`slider-${name}`).value = limits[name];
    }
    document.getElementById("moved").hidden = names.every((n) => limits[n] === data.limits[n]);
  }

  function set(name, value) {
    if (value >= 0) {
      // One limit is both; of two, the one that is moved pushes the other.
      const other = name === "ok" ? "ng" : "ok";
      const passes = name === "ok" ? value > limits.ng : value < limits.ok;
      limits[name] = value;
      if (names.length === 1 || passes) limits[other] = value;
    }
    update();
  }

  for (const name of names) {
    // A number is taken when it is typed in full, since what is typed before may push the other.
    for (const [kind, event] of [["number", "change"], ["slider", "input"]]) {
      const input = document.getElementById(`${kind}-${name}`);
      input.addEventListener(event, () => set(name, input.valueAsNumber));
    }
  }
  document.getElementById("reset").addEventListener("click", () => {
    Object.assign(limits, data.limits);
    update();
  });

  const dialog = document.getElementById("enlarged");
  dialog.querySelector("button").addEventListener("click", () => dialog.close());
  for (const card of cards.values()) {
    card.querySelector(".pictures").addEventListener("click", () => {
      const pictures = card.querySelectorAll(".picture");
      dialog.querySelector("div").replaceChildren(...[...pictures].map((p) => p.cloneNode(true)));
      dialog.querySelector("p").textContent = card.querySelector(".name").textContent;
      dialog.showModal();
    });
  }
})();
