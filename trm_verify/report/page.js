"use strict";
for (const stepper of document.querySelectorAll(".stepper")) {
  const data = JSON.parse(stepper.querySelector("script").textContent);
  const find = (name) => stepper.querySelector("[data-" + name + "]");
  const slider = find("slider"), said = find("said"), last = data.steps.length - 1;
  const [previous, next] = [find("previous"), find("next")];
  const bars = stepper.querySelectorAll("[data-class]"), dots = stepper.querySelectorAll("[data-logit]");
  const cells = stepper.querySelectorAll("[data-cell]"), answers = stepper.querySelectorAll("[data-position]");
  const frame = data.frame;
  const height = (value) => {
    const share = (value - frame.low) / (frame.high - frame.low);
    return frame.bottom + (frame.top - frame.bottom) * Math.min(1, Math.max(0, share));
  };
  const show = (index) => {
    said.textContent = data.said[index];
    slider.setAttribute("aria-valuetext", data.said[index]);
    previous.disabled = index === 0;
    next.disabled = index === last;
    bars.forEach((bar, c) => {
      const top = height(data.high[index][c]), bottom = height(data.low[index][c]);
      bar.setAttribute("y", top);
      bar.setAttribute("height", Math.max(1.2, bottom - top));
    });
    dots.forEach((dot, c) => dot.setAttribute("cy", height(data.logits[index][c])));
    cells.forEach((cell, i) => {
      const value = data.states[index][i];
      cell.setAttribute("class", "cell fill " + (value < 0 ? "measured" : "proved"));
      cell.setAttribute("fill-opacity", Math.abs(value) / 100);
    });
    answers.forEach((item, i) => {
      const label = data.answers[index] === null ? "?" : data.answers[index][i];
      item.textContent = label;
      item.className = data.answers[last] !== null && label === data.answers[last][i] ? "" : "other";
    });
    for (const line of stepper.querySelectorAll("[data-cursor]")) {
      const [left, right, low, high] = line.dataset.cursor.split(" ").map(Number);
      const at = left + ((right - left) * (data.steps[index] - low)) / (high - low || 1);
      line.setAttribute("x1", at);
      line.setAttribute("x2", at);
    }
  };
  const move = (by) => {
    slider.value = Math.min(last, Math.max(0, Number(slider.value) + by));
    show(Number(slider.value));
  };
  slider.addEventListener("input", () => show(Number(slider.value)));
  previous.addEventListener("click", () => move(-1));
  next.addEventListener("click", () => move(1));
  find("controls").hidden = false;
  slider.value = data.start;
  show(data.start);
}
