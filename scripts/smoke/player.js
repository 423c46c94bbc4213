// One transport for all sounds of the page: a sound that is chosen goes on at the position of the one before it.
(() => {
  "use strict";
  const STEP = 1, LONG_STEP = 10; // seconds
  const find = (id) => document.getElementById(id);
  const sounds = [...document.querySelectorAll(".sound audio")];
  const choosers = [...document.querySelectorAll("button[data-sound]")];
  const heads = [...document.querySelectorAll(".sound .head")];
  const names = sounds.map((sound) => sound.getAttribute("aria-label"));
  const lengths = sounds.map((sound) => Number(sound.dataset.seconds));
  const longest = Math.max(...lengths);
  const button = find("play"), slider = find("position"), clock = find("clock"), chosen = find("chosen");
  let current = 0, position = 0, playing = false;

  const spoken = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;

  function show() {
    slider.value = position;
    slider.setAttribute("aria-valuetext", `${position.toFixed(1)} of ${longest.toFixed(1)} seconds`);
    clock.textContent = spoken(position);
    heads.forEach((head, i) => { head.style.left = `${Math.min(100, (100 * position) / lengths[i])}%`; });
  }

  function showState() {
    button.textContent = playing ? "Pause" : "Play";
    button.classList.toggle("playing", playing);
    chosen.textContent = names[current];
    choosers.forEach((chooser) => {
      chooser.setAttribute("aria-pressed", String(Number(chooser.dataset.sound) === current));
    });
    document.querySelectorAll(".sound").forEach((figure, i) => figure.classList.toggle("current", i === current));
  }

  function follow() {
    if (!playing) return;
    const sound = sounds[current];
    if (!sound.seeking && sound.readyState > 0) position = sound.currentTime;
    show();
    requestAnimationFrame(follow);
  }

  function start() {
    playing = true;
    const sound = sounds[current];
    if (position >= lengths[current]) position = 0;
    sound.currentTime = position;
    sound.play().catch((error) => {
      if (error.name !== "AbortError" && sound === sounds[current]) stop();
    });
    showState();
    requestAnimationFrame(follow);
  }

  function stop() {
    const sound = sounds[current];
    sound.pause();
    if (playing && !sound.seeking && sound.readyState > 0) position = sound.currentTime;
    playing = false;
    show();
    showState();
  }

  function seek(seconds) {
    position = Math.min(Math.max(seconds, 0), longest);
    sounds[current].currentTime = Math.min(position, lengths[current]);
    show();
  }

  function choose(index) {
    if (index === current || sounds[index].error) return;
    const wasPlaying = playing;
    stop();
    current = index;
    if (wasPlaying && position < lengths[index]) start();
    else showState();
  }

  sounds.forEach((sound, i) => {
    sound.controls = false;
    sound.addEventListener("ended", () => { if (i === current) stop(); });
    sound.addEventListener("error", () => {
      sound.closest(".sound").querySelector(".missing").hidden = false;
      if (i === current) stop();
    });
    if (sound.error) sound.dispatchEvent(new Event("error"));
  });
  choosers.forEach((chooser) => {
    chooser.disabled = false;
    chooser.addEventListener("click", () => choose(Number(chooser.dataset.sound)));
  });
  document.querySelectorAll(".sound .picture").forEach((picture, i) => {
    picture.addEventListener("click", (event) => {
      const box = picture.getBoundingClientRect();
      choose(i);
      seek((lengths[i] * (event.clientX - box.left)) / box.width);
    });
  });
  button.addEventListener("click", () => (playing ? stop() : start()));
  slider.max = longest;
  slider.addEventListener("input", () => seek(Number(slider.value)));

  // Keys that the element in focus has a use for of its own are left to it.
  const own = (target) => target.closest("summary, .scroll, textarea, select, input:not([type=range])");
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || own(event.target)) return;
    const step = event.shiftKey ? LONG_STEP : STEP;
    if (event.key === " ") {
      if (!event.repeat) { if (playing) stop(); else start(); }
    } else if (event.key === "ArrowLeft") seek(position - step);
    else if (event.key === "ArrowRight") seek(position + step);
    else if (/^[0-9]$/.test(event.key)) {
      const index = event.key === "0" ? sounds.length - 1 : Number(event.key) - 1;
      if (index < sounds.length) choose(index);
    } else return;
    event.preventDefault();
  });
  document.addEventListener("keyup", (event) => {
    if (event.key === " " && !own(event.target)) event.preventDefault(); // else it also presses the button in focus
  });
  find("transport").hidden = find("keys").hidden = false;
  show();
  showState();
})();
