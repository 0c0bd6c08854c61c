"use strict";
// Follows the runs of a page: asks its server what is new and exchanges the parts that changed.
// What the reader has opened, ticked, chosen and scrolled to stays.
(() => {
  const SECONDS = 2, OLD = 10;
  const root = document.documentElement;
  const sources = new Map(); // id of a part -> the markup that the server last gave
  let tag = root.dataset.version, timer, asking = false;

  async function ask(address, known) {
    const headers = known ? { "If-None-Match": `"${known}"` } : {};
    const answer = await fetch(address, { headers, cache: "no-store", redirect: "error" });
    if (answer.status === 304) return null;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!answer.ok) throw new Error(page.querySelector(".notice")?.textContent || `it answered ${answer.status}`);
    return { page, tag: answer.headers.get("ETag").replaceAll('"', "") };
  }

  async function look() {
    clearTimeout(timer);
    if (document.hidden || asking) return;
    asking = true;
    let rest = SECONDS * 1000;
    try {
      const alone = root.dataset.poll === location.pathname; // the page itself is what is asked for
      const found = await ask(root.dataset.poll, alone || sources.has("now") ? tag : null);
      if (found) {
        tag = found.tag;
        if (alone) exchange(found.page);
        else {
          const now = found.page.getElementById("now");
          put(now);
          if (now.dataset.page !== root.dataset.version) {
            const begun = Date.now();
            const whole = await ask(location.pathname + location.search, null);
            rest += 4 * (Date.now() - begun); // a page that takes long is made more rarely
            exchange(whole.page);
            root.dataset.version = whole.tag;
          }
        }
      }
      lost("");
    } catch (error) {
      lost(error instanceof TypeError ? "no connection to `iter ui`; it may have ended" : error.message);
    }
    asking = false;
    timer = setTimeout(look, rest);
  }

  // -- exchanging parts ----------------------------------------------------------------

  function exchange(page) {
    const samples = page.getElementById("samples-data");
    const own = document.getElementById("samples-data");
    steadily(() => {
      document.title = page.title;
      put(page.getElementById("top"));
      let before = null;
      for (const part of [...page.getElementById("main").children]) {
        if (part.id === "now") continue;
        if (part.id === "samples" && document.getElementById("samples")) {
          put(page.getElementById("samples-notes"));
          before = document.getElementById("samples");
        } else before = put(part, before);
      }
      if (samples && samples.textContent !== own.textContent) {
        own.textContent = samples.textContent;
        document.dispatchEvent(new CustomEvent("samples", { detail: JSON.parse(samples.textContent) }));
      }
    });
    ages();
  }

  function put(part, before) {
    const old = document.getElementById(part.id), markup = part.outerHTML;
    if (old && sources.get(part.id) === markup) return old;
    sources.set(part.id, markup);
    const made = document.adoptNode(part);
    if (!old) {
      if (before) before.after(made); else document.getElementById("main").prepend(made);
      return made;
    }
    restore(made, old);
    const focus = old.contains(document.activeElement) ? named(old).get(document.activeElement) : null;
    const scrolled = [...old.querySelectorAll(".scroll")].map((e) => [e.scrollLeft, e.scrollTop]);
    old.replaceWith(made);
    made.querySelectorAll(".scroll").forEach((e, n) => {
      if (scrolled[n]) [e.scrollLeft, e.scrollTop] = scrolled[n];
    });
    if (focus) [...named(made)].find(([, name]) => name === focus)?.[0].focus({ preventScroll: true });
    return made;
  }

  // Elements that a reader can act on, each with what it is called.
  function named(part) {
    const found = new Map(), counts = new Map();
    for (const e of part.querySelectorAll("details, summary, a, button, input, [tabindex]")) {
      const title = e.localName === "details" ? e.querySelector("summary") : e;
      const text = (title.querySelector("h3") || title).textContent.trim();
      const name = `${e.localName} ${e.value || e.getAttribute("aria-label") || text}`;
      counts.set(name, (counts.get(name) || 0) + 1);
      found.set(e, `${name} ${counts.get(name)}`);
    }
    return found;
  }

  function restore(made, old) {
    const before = new Map([...named(old)].map(([e, name]) => [name, e]));
    for (const [e, name] of named(made)) {
      const known = before.get(name);
      if (!known) continue;
      if (e.localName === "details") e.open = known.open;
      if (e.type === "checkbox") e.checked = known.checked;
    }
  }

  // What stands at the top of the window stays there.
  function steadily(change) {
    const places = [...document.querySelectorAll("[id], [data-key]")]
      .map((e) => [e, e.getBoundingClientRect()])
      .filter(([e, box]) => box.height && box.top <= 80 && box.bottom > 0 && !["top", "main"].includes(e.id));
    const [mark, box] = places.at(-1) || [];
    change();
    const still = mark && (mark.isConnected ? mark : document.getElementById(mark.id));
    if (still && window.scrollY) {
      window.scrollBy({ top: still.getBoundingClientRect().top - box.top, behavior: "instant" });
    }
  }

  // -- words ---------------------------------------------------------------------------

  function lost(why) {
    const known = document.getElementById("lost");
    if (!why) return known?.remove();
    const notice = known || document.createElement("p");
    notice.id = "lost";
    notice.className = "notice bad";
    notice.setAttribute("role", "status");
    notice.textContent = `Not up to date: ${why}`;
    if (!known) document.getElementById("main").prepend(notice);
  }

  function ages() {
    for (const time of document.querySelectorAll("time")) {
      const seconds = Math.max(0, (Date.now() - Date.parse(time.dateTime)) / 1000);
      if (Number.isNaN(seconds)) continue;
      const [unit, size] = [["d", 86400], ["h", 3600], ["m", 60]].find((u) => seconds >= u[1]) || ["s", 1];
      time.title ||= time.textContent;
      time.textContent = `${Math.floor(seconds / size)}${unit} ago`;
    }
  }

  for (const part of document.querySelectorAll("#top, #main > [id], #samples-notes")) {
    if (part.id !== "now") sources.set(part.id, part.outerHTML);
  }
  document.addEventListener("visibilitychange", look);
  setInterval(ages, OLD * 1000);
  ages();
  look();
})();
