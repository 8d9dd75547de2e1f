// A word that is pointed at, tapped or reached by the arrow keys shows its bits under every model.
(() => {
  const readout = document.getElementById("readout");
  const passages = [...document.querySelectorAll(".heat")];
  if (!readout || !passages.length) return;
  const words = passages.map((p) => [...p.querySelectorAll("span")]);
  const places = new Map(words.flatMap((list) => list.map((word, i) => [word, i])));
  let now = -1;
  const show = (i) => {
    if (!words[0][i] || i === now) return;
    for (const list of words) {
      list[now]?.classList.remove("on");
      list[i]?.classList.add("on");
    }
    now = i;
    const word = document.createElement("b");
    word.textContent = words[0][i].textContent;
    const bits = passages.map((p, k) => `${p.dataset.name} ${words[k][i]?.title ?? "–"}`);
    readout.replaceChildren(word, "  " + bits.join("  ·  "));
  };
  for (const p of passages) {
    const point = (event) => places.has(event.target) && show(places.get(event.target));
    p.addEventListener("mouseover", point);
    p.addEventListener("click", point);
    p.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      show(Math.max(0, now + step));
    });
  }
})();
