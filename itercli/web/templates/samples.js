"use strict";
// The sample browser and the tips of the charts. Texts become text nodes, never markup.
(() => {
  const PAGE = 20, FACTS = 4, LONG = 1500, DEEPEST = 14;
  let data = JSON.parse(document.getElementById("samples-data").textContent);
  const byId = (id) => document.getElementById(id);

  function el(name, className, ...content) {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...content.filter((c) => c !== null && c !== undefined));
    return made;
  }

  // -- blocks, see itercli/web/views.py; `texts` is the table that their places are in --

  function body(place, texts) {
    const [text, left] = texts[place];
    const pre = el("pre", text ? "" : "quiet", text || "(nothing)");
    if (text.length > LONG) pre.tabIndex = 0; // it scrolls
    if (!left) return pre;
    return el("div", "", pre, el("p", "quiet", `${left.toLocaleString("en")} more characters`));
  }

  function lazily(fold, make) {
    const fill = () => { if (fold.open && fold.childElementCount === 1) fold.append(make()); };
    fold.addEventListener("toggle", fill);
    fill();
    return fold;
  }

  function fold(title, open, make) {
    const made = el("details", "fold", title);
    made.open = open;
    return lazily(made, make);
  }

  const draw = {
    text: (b, texts) => el("div", "block", el("p", "name", b.name), body(b.text, texts)),
    message: (b, texts) => el("div", "block message " + (b.name === "assistant" ? "assistant " : "") + b.tone,
      el("p", "name", b.name, b.note ? el("span", "tag " + b.tone, b.note) : null), body(b.message, texts)),
    columns: (b, texts) => el("div", "columns", ...b.columns.map((c) =>
      el("div", "block", el("p", "name", c.name), body(c.text, texts)))),
    section: (b, texts) => fold(el("summary", b.tone, b.section), b.open, () => blocks(b.blocks, texts)),
    tree(b, texts) {
      const depths = [], list = el("ul", "tree");
      for (const node of b.tree) {
        const depth = node.parent === null ? 0 : depths[node.parent] + 1;
        depths.push(depth);
        const line = el("summary", node.best ? "best" : "", el("span", "action", node.action),
          el("span", "quiet", node.facts), ...node.marks.map((m) => el("span", "tag " + m.tone, m.name)));
        const item = el("li", "", node.blocks.length ? fold(line, false, () => blocks(node.blocks, texts))
          : el("div", "fold", ...line.childNodes));
        item.style.setProperty("--depth", Math.min(depth, DEEPEST));
        list.append(item);
      }
      // Nodes come in the order in which they were made; people read a tree depth first.
      const items = [...list.children], children = items.map(() => []);
      b.tree.forEach((node, n) => { if (node.parent !== null) children[node.parent].push(n); });
      const todo = b.tree.length ? [0] : [];
      while (todo.length) {
        const n = todo.pop();
        list.append(items[n]);
        todo.push(...children[n].reverse());
      }
      return el("div", "block", el("p", "name", "search tree"), list,
        b.left ? el("p", "quiet", `${b.left} more nodes`) : null);
    },
  };

  function blocks(all, texts) {
    const made = el("div", "blocks");
    for (const block of all) {
      const kind = Object.keys(draw).find((k) => k in block);
      if (kind) made.append(draw[kind](block, texts));
    }
    return made;
  }

  // -- samples -------------------------------------------------------------------------

  const GOOD = ["passed", "kept", "done"], BAD = ["failed", "dropped", "error"];
  const tone = (s) => GOOD.includes(s) ? "good" : BAD.includes(s) ? "bad" : "";
  const name = (i) => (i === 0 ? "start" : `iteration ${i}`);

  function sample(row, open) {
    const stage = data.stages[row.stage], texts = data.texts;
    const outcome = row.outcome && row.outcome !== row.verdict &&
      !(row.verdict === "passed" && row.outcome === "pass") ? row.outcome : null;
    const title = el("summary", "",
      el("span", "where", `${name(stage.iteration)} · ${stage.stage}`),
      el("span", "id", row.prompt + (row.index === null ? "" : ` #${row.index}`)),
      row.verdict ? el("span", "tag " + tone(row.verdict), row.verdict) : null,
      outcome ? el("span", "tag", outcome) : null,
      el("span", "quiet", row.facts.slice(0, FACTS).join(" · ")));
    return fold(title, open, () => {
      const made = blocks(row.blocks, texts), more = row.facts.slice(FACTS);
      if (more.length) made.prepend(el("p", "quiet", more.join(" · ")));
      return made;
    });
  }

  const cached = new WeakMap();
  function words(row) {
    if (!cached.has(row)) {
      const places = [];
      JSON.stringify(row.blocks, (key, value) => {
        if ((key === "text" || key === "message") && typeof value === "number") places.push(value);
        return value;
      });
      cached.set(row, places.map((p) => data.texts[p][0]).join("\n").toLowerCase());
    }
    return cached.get(row);
  }

  // -- filters -------------------------------------------------------------------------

  const filters = ["run", "iteration", "stage", "outcome"].map((f) => byId("f-" + f));
  const [run, iteration, stage, outcome] = filters;
  const prompt = byId("f-prompt"), text = byId("f-text"), list = byId("list"), more = byId("f-more");
  let found = [], shown = 0;

  const of = {
    run: (r) => [String(data.stages[r.stage].run)],
    iteration: (r) => [String(data.stages[r.stage].iteration)],
    stage: (r) => [data.stages[r.stage].stage],
    outcome: (r) => [r.verdict, r.outcome].filter(Boolean),
  };

  function fill(select, values, label) {
    const counts = new Map();
    for (const row of data.rows) {
      for (const v of new Set(values(row))) counts.set(v, (counts.get(v) || 0) + 1);
    }
    const choices = [...counts].map(([value, n]) => {
      const option = el("option", "", `${label(value)} (${n})`);
      option.value = value;
      return option;
    });
    const all = el("option", "", "all"), kept = select.value;
    all.value = "";
    select.replaceChildren(all, ...choices);
    select.value = counts.has(kept) ? kept : "";
    return counts.size;
  }

  function matches(row) {
    return filters.every((f) => !f.value || of[f.id.slice(2)](row).includes(f.value)) &&
      row.prompt.toLowerCase().includes(prompt.value.trim().toLowerCase()) &&
      (!text.value || words(row).includes(text.value.toLowerCase()));
  }

  // What stands for a row of a stage; rows never change, but one more call can be one more row.
  const key = (row) => JSON.stringify([data.stages[row.stage].run, data.stages[row.stage].node,
    data.stages[row.stage].finished, row.prompt, row.index, row.facts]);

  function show(next, before = new Map()) {
    found.slice(shown, shown + next).forEach((row, n) => {
      const name = key(row), known = before.get(name);
      before.delete(name);
      const item = known || sample(row, shown + n === 0 && !before.size);
      item.dataset.key = name;
      list.append(item);
    });
    shown = Math.min(shown + next, found.length);
    more.hidden = shown === found.length;
    byId("f-count").textContent = `${found.length} of ${data.rows.length} samples fit, ${shown} shown`;
  }

  function apply() {
    found = data.rows.filter(matches);
    shown = 0;
    list.replaceChildren();
    show(PAGE);
  }

  // A page that follows its runs: what a reader has opened or chosen stays as it is.
  document.addEventListener("samples", (e) => {
    const before = new Map([...list.children].map((item) => [item.dataset.key, item]));
    const most = Math.max(shown, PAGE);
    data = e.detail;
    choices();
    found = data.rows.filter(matches);
    shown = 0;
    list.replaceChildren();
    show(most, before);
  });

  function choices() {
    const runNames = [...document.querySelectorAll("[data-run]")].map((e) => e.dataset.run);
    byId("f-run-label").hidden = fill(run, of.run, (v) => runNames[v] || v) < 2;
    fill(iteration, of.iteration, (v) => name(Number(v)));
    fill(stage, of.stage, (v) => v);
    fill(outcome, of.outcome, (v) => v);
    byId("f-prompts").replaceChildren(...[...new Set(data.rows.map((r) => r.prompt))].sort().map((p) => {
      const option = el("option", "");
      option.value = p;
      return option;
    }));
  }

  choices();
  filters.forEach((f) => f.addEventListener("change", apply));
  let waiting;
  [prompt, text].forEach((f) => f.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(apply, 150);
  }));
  byId("filters").addEventListener("submit", (e) => e.preventDefault());
  byId("filters").addEventListener("reset", () => setTimeout(apply));
  byId("f-all").addEventListener("click", () => {
    for (const item of list.children) item.open = true;
  });
  more.addEventListener("click", () => show(PAGE));
  const first = data.stages.find((s) => s.first && s.shown); // what `iter samples` shows, too
  if (first) {
    iteration.value = String(first.iteration);
    stage.value = first.stage;
  }
  apply();

  // -- tips of charts ------------------------------------------------------------------

  const tip = el("div", "tip");
  tip.hidden = true;
  document.body.append(tip);
  document.addEventListener("mouseover", (e) => {
    const mark = e.target.closest(".chart [role=graphics-symbol][aria-label]");
    tip.hidden = !mark || mark.getAttribute("aria-roledescription") === "axis" ||
      mark.getAttribute("aria-roledescription") === "legend";
    if (tip.hidden) return;
    tip.textContent = mark.getAttribute("aria-label");
    const box = mark.getBoundingClientRect(), width = document.documentElement.clientWidth;
    tip.style.top = `${window.scrollY + box.top - tip.offsetHeight - 8}px`;
    tip.style.left = `${Math.max(8, Math.min(box.left + box.width / 2 - tip.offsetWidth / 2, width - tip.offsetWidth - 8))}px`;
  });
})();
