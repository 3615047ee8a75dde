// The Tags panel: clicks on tags, pictures, chips and cards are told to its one handler, one after the other.
// An action is {n, act, value}; the answer names the last one that was carried out, then the next are sent.
(function () {
    "use strict";
    if (window.loraLabTags) return;
    const PATIENCE = 15000, TICK = 120; // milliseconds
    const panel = () => document.getElementById("lora_lab_tags");
    const shown = (element) => Boolean(element) && element.getClientRects().length > 0;
    let number = Date.now(); // grows over reloads, so that an old answer never counts for a new action
    let waiting = [], sent = [], sentAt = 0;

    // What the button's JavaScript hands to Python.
    window.loraLabTags = () => JSON.stringify(sent);

    function done() {
        const mark = document.querySelector("#lora_lab_tags_done [data-done]");
        return mark ? Number(mark.dataset.done) : 0;
    }

    function tell(act, value) {
        waiting.push({n: ++number, act, value: String(value)});
        send();
    }

    function send() {
        if (sent.length && done() < sent[sent.length - 1].n && Date.now() - sentAt < PATIENCE) return;
        sent = [];
        const button = document.getElementById("lora_lab_tags_do");
        if (!waiting.length || !button) return;
        sent = waiting;
        waiting = [];
        sentAt = Date.now();
        button.click();
    }

    const chips = () => document.querySelector("#lora_lab_tags .lora-lab-chips");
    const tagsOf = (box) => Array.from(box.querySelectorAll(".lora-lab-chip"), (chip) => chip.dataset.tag);

    // The chips show a change at once; the caption is saved as a whole.
    function save(box) {
        tell("caption", JSON.stringify({file: box.dataset.file, tags: tagsOf(box)}));
    }

    function drop(chip) {
        const box = chip.closest(".lora-lab-chips"), next = chip.nextElementSibling;
        chip.remove();
        if (next && next.focus) next.focus();
        save(box);
    }

    function move(chip, step) {
        const other = step < 0 ? chip.previousElementSibling : chip.nextElementSibling;
        if (!other || !other.classList.contains("lora-lab-chip")) return;
        if (step < 0) other.before(chip); else other.after(chip);
        chip.focus();
        save(chip.parentElement);
    }

    function add(text) {
        const box = chips();
        if (!box) return;
        const there = new Set(tagsOf(box));
        const fresh = text.split(",").map((t) => t.trim()).filter((t) => t && !there.has(t));
        const input = box.querySelector("input");
        input.value = "";
        for (const name of fresh) {
            const chip = document.createElement("span");
            chip.className = "lora-lab-chip";
            chip.tabIndex = 0;
            chip.draggable = true;
            chip.translate = false;
            chip.dataset.tag = name;
            chip.textContent = name;
            input.before(chip);
        }
        if (fresh.length) save(box);
    }

    function clicked(event) {
        const root = panel(), at = event.target;
        if (!root || !at.closest || !root.contains(at)) return;
        const cross = at.closest(".lora-lab-cross");
        if (cross) return drop(cross.parentElement);
        const button = at.closest("[data-act]");
        if (!button || button.getAttribute("disabled")) return;
        const act = button.dataset.act, value = button.dataset.value || "";
        if (act === "add") return add(value);
        if (act === "open" && (event.ctrlKey || event.metaKey)) return tell("toggle", value);
        if (act === "open" && event.shiftKey) return tell("range", value);
        if (act === "take") button.disabled = true;
        tell(act, value);
    }

    const typing = (element) => /^(INPUT|TEXTAREA|SELECT)$/.test(element.tagName) || element.isContentEditable;

    function pressed(event) {
        const root = panel(), at = event.target;
        if (!shown(root)) return;
        if (at.classList && at.classList.contains("lora-lab-add")) {
            if (event.key === "Enter") { add(at.value); event.preventDefault(); }
            else if (event.key === "Escape") at.blur();
            else if (event.key === "Backspace" && !at.value && at.previousElementSibling) drop(at.previousElementSibling);
            return;
        }
        if (typing(at)) return;
        const chip = at.closest && at.closest(".lora-lab-chip");
        const stroke = (event.ctrlKey || event.metaKey ? "Ctrl+" : "") + (event.altKey ? "Alt+" : "") + event.key;
        const todo = {
            "ArrowRight": () => tell("step", 1), "ArrowLeft": () => tell("step", -1),
            "Ctrl+z": () => tell("undo", ""), "Ctrl+y": () => tell("redo", ""),
            "e": () => { const box = chips(); if (box) box.querySelector("input").focus(); },
            "/": () => { const box = document.querySelector("#lora_lab_tags_filter textarea, #lora_lab_tags_filter input"); if (box) box.focus(); },
            "Delete": () => chip && drop(chip), "Backspace": () => chip && drop(chip),
            "Alt+ArrowLeft": () => chip && move(chip, -1), "Alt+ArrowRight": () => chip && move(chip, 1),
        }[stroke];
        if (!todo) return;
        event.preventDefault();
        todo();
    }

    let dragged = null;
    document.addEventListener("dragstart", (event) => {
        const chip = event.target.closest && event.target.closest("#lora_lab_tags .lora-lab-chip");
        dragged = chip || null;
        if (chip) event.dataTransfer.setData("text/plain", chip.dataset.tag);
    });
    document.addEventListener("dragover", (event) => {
        const over = dragged && event.target.closest && event.target.closest(".lora-lab-chip");
        if (!dragged || !event.target.closest || !event.target.closest(".lora-lab-chips")) return;
        event.preventDefault();
        if (!over || over === dragged) return;
        const box = over.getBoundingClientRect();
        if (event.clientX < box.left + box.width / 2) over.before(dragged); else over.after(dragged);
    });
    document.addEventListener("dragend", () => {
        if (dragged) save(dragged.closest(".lora-lab-chips"));
        dragged = null;
    });
    document.addEventListener("click", clicked);
    document.addEventListener("keydown", pressed);

    // Tagging in the background has ended: the panel is shown as it is now.
    let ended = null;
    setInterval(() => {
        send();
        const mark = document.querySelector("#lora_lab_autotag_told [data-ended]");
        const now = mark ? mark.dataset.ended : "";
        if (now && now !== ended) tell("refresh", "");
        ended = now;
    }, TICK);
})();
