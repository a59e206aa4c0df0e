// Arrow keys go from photo to photo; down from the search field goes to the first one found.
document.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  const from = document.activeElement;
  if (!step || event.altKey || event.ctrlKey || event.metaKey || !from) return;
  if (from.closest(".search") && event.key === "ArrowDown") {
    document.querySelector(".found .shot")?.focus();
    event.preventDefault();
    return;
  }
  if (!from.matches(".shot")) return;
  const middle = (box) => [box.left + box.width / 2, box.top + box.height / 2];
  const [x, y] = middle(from.getBoundingClientRect());
  let best = null;
  let least = Infinity;
  for (const other of document.querySelectorAll(".shot")) {
    const [there, down] = middle(other.getBoundingClientRect());
    const along = (there - x) * step[0] + (down - y) * step[1];
    const aside = Math.abs((there - x) * step[1]) + Math.abs((down - y) * step[0]);
    if (along > 4 && (step[1] || aside < 4) && along + 2 * aside < least) {
      best = other;
      least = along + 2 * aside;
    }
  }
  if (best) {
    best.focus();
    event.preventDefault();
  }
});
