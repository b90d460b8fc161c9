// Boxes around the places of a picture that are above the limit.

import { number } from "./texts.js";

/** Draw them in frame pixels; lines and texts have the same size at every zoom. */
export function drawBoxes(context, scale, boxes) {
  context.font = `600 ${13 / scale}px system-ui, sans-serif`;
  context.textBaseline = "bottom";
  const around = 4 / scale;
  for (const { box, peak } of boxes) {
    const [top, left, tall, wide] = box;
    const place = [left - around, top - around, wide + 2 * around, tall + 2 * around];
    for (const [colour, line] of [
      ["#000", 4],
      ["#fff", 2],
    ]) {
      context.strokeStyle = colour;
      context.lineWidth = line / scale;
      context.strokeRect(...place);
    }
    const text = `×${number(peak, 3)}`;
    const high = 18 / scale;
    const above = place[1] > high;
    const base = above ? place[1] : place[1] + place[3] + high;
    context.fillStyle = "#000c";
    context.fillRect(place[0], base - high, context.measureText(text).width + 10 / scale, high);
    context.fillStyle = "#fff";
    context.fillText(text, place[0] + 5 / scale, base - 2 / scale);
  }
}
