// The camera picture and the surprise over it.

import { age, capital, cause, list } from "./words.js";

const WARM = 0.5;

export class PictureView {
  constructor() {
    this.frame = document.getElementById("frame");
    this.heat = document.getElementById("heat");
    this.none = document.getElementById("no-picture");
    this.verdict = document.getElementById("verdict");
    this.facts = document.getElementById("frame-facts");
    this.scale = document.getElementById("heat-scale");
    this.stage = document.getElementById("stage");
    this.toggle = document.getElementById("heat-on");
    this.toggle.addEventListener("change", () => this.drawHeat());
    this.cells = null;
    this.pending = null;
    this.decoding = false;
  }

  show(message) {
    const { picture, surprise, faults } = message;
    this.cells = message.heat;
    this.none.hidden = picture !== null || message.index === undefined;
    if (picture) {
      this.facts.textContent = `Frame ${picture.sequence} · ${picture.width}×${picture.height} · ${age(picture.age_ms)} old`;
      this.stage.classList.toggle("old", picture.age_ms > 1500);
    } else {
      this.facts.textContent = "No frame in this tick";
      this.stage.classList.add("old");
    }
    const alarmed = Boolean(surprise && surprise.alarmed);
    this.stage.classList.toggle("alarmed", alarmed || faults.length > 0);
    const text = faults.length
      ? `Camera: ${list(faults.map(cause))}`
      : alarmed
        ? `Alarm: ${cause(surprise.cause)}`
        : message.coasted > 0
          ? `Predicting without a frame for ${message.coasted} ${message.coasted === 1 ? "step" : "steps"}`
          : "";
    this.verdict.hidden = !text;
    if (this.verdict.textContent !== text) this.verdict.textContent = capital(text);
    this.scale.hidden = !this.cells;
    this.drawHeat();
  }

  // Only the newest picture is decoded; those that arrive meanwhile replace each other.
  async draw(blob) {
    this.pending = blob;
    if (this.decoding) return;
    this.decoding = true;
    while (this.pending) {
      const next = this.pending;
      this.pending = null;
      try {
        const bitmap = await createImageBitmap(next);
        if (this.frame.width !== bitmap.width || this.frame.height !== bitmap.height) {
          for (const canvas of [this.frame, this.heat]) {
            canvas.width = bitmap.width;
            canvas.height = bitmap.height;
          }
          this.drawHeat();
        }
        this.frame.getContext("2d").drawImage(bitmap, 0, 0);
        this.none.hidden = true;
        bitmap.close();
      } catch {
        this.facts.textContent = "A picture could not be decoded";
      }
    }
    this.decoding = false;
  }

  drawHeat() {
    const context = this.heat.getContext("2d");
    const { width, height } = this.heat;
    context.clearRect(0, 0, width, height);
    if (!this.cells || !this.toggle.checked) return;
    const { rows, columns } = this.cells;
    const bytes = Uint8Array.from(atob(this.cells.cells), (letter) => letter.charCodeAt(0));
    const small = new OffscreenCanvas(columns, rows);
    const image = new ImageData(columns, rows);
    for (let i = 0; i < bytes.length; i += 1) {
      const value = bytes[i] / 100;
      const over = Math.min(1, Math.max(0, (value - WARM) / (1.6 - WARM)));
      // Amber to vermilion: told apart by lightness too, and the threshold itself is an outline, not a colour.
      image.data.set([255, 196 - 150 * over, 40 - 20 * over, value < WARM ? 0 : 30 + 130 * over], 4 * i);
    }
    small.getContext("2d").putImageData(image, 0, 0);
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    context.drawImage(small, 0, 0, width, height);
    this.outline(context, bytes, rows, columns, width / columns, height / rows);
  }

  outline(context, bytes, rows, columns, dx, dy) {
    const above = (r, c) => r >= 0 && c >= 0 && r < rows && c < columns && bytes[r * columns + c] >= 100;
    const path = new Path2D();
    for (let r = 0; r < rows; r += 1) {
      for (let c = 0; c < columns; c += 1) {
        if (!above(r, c)) continue;
        const [left, top, right, bottom] = [c * dx, r * dy, (c + 1) * dx, (r + 1) * dy];
        const edges = [
          [above(r - 1, c), left, top, right, top],
          [above(r + 1, c), left, bottom, right, bottom],
          [above(r, c - 1), left, top, left, bottom],
          [above(r, c + 1), right, top, right, bottom],
        ];
        for (const [inside, x0, y0, x1, y1] of edges) {
          if (inside) continue;
          path.moveTo(x0, y0);
          path.lineTo(x1, y1);
        }
      }
    }
    context.lineCap = "round";
    context.strokeStyle = "#000000";
    context.lineWidth = 4;
    context.stroke(path);
    context.strokeStyle = "#ffffff";
    context.lineWidth = 2;
    context.stroke(path);
  }
}
