// LoRA Lab's tab: asks for news while it is shown, sends prompts to txt2img, puts tooltips on what has one.
// Works in the webui and standalone: what the webui has (updateInput, switch_to_txt2img) is used only where it is there.
(function () {
    "use strict";
    if (window.loraLab) return;
    window.loraLab = {waiting: ""}; // the waiting run whose cancel button was pressed

    const TICK = 500, BUSY = 1000, IDLE = 3000, AWAY = 5000, PATIENCE = 10000, PAUSE = 350; // milliseconds
    const byId = (id) => document.getElementById(id);
    const shown = (element) => Boolean(element) && element.getClientRects().length > 0;

    let asked = 0; // when news was asked for last
    let beatThen = null; // the answer that was there at that time
    let startedAt = 0; // when Start was pressed last: a run may be under way of which no answer tells yet

    function pulse() {
        const span = document.querySelector("#lora_lab_live_pulse [data-beat]");
        return span ? span.dataset : {beat: "", active: "1", listed: "0"};
    }

    // One question at a time; every second while a run is under way, else now and then. While another tab is shown:
    // seldom, and only until the run's end, when the webui's cards are listed anew. None while the page is hidden.
    function ask() {
        const button = byId("lora_lab_live_poll");
        const now = Date.now(), heart = pulse(), here = shown(byId("lora_lab_root"));
        const busy = heart.active === "1" || now - startedAt < 3 * PATIENCE;
        if (!button || document.visibilityState !== "visible" || !(here || busy)) return;
        const unanswered = heart.beat === beatThen;
        const wait = unanswered ? PATIENCE : !here ? AWAY : busy ? BUSY : IDLE;
        if (now - asked < wait) return;
        asked = now;
        beatThen = heart.beat;
        button.click();
    }

    // A run has ended and left a LoRA: the webui's cards are listed anew, as by their own refresh button.
    let listed = "0";

    function refreshCards() {
        const now = pulse().listed;
        if (now === listed) return;
        listed = now;
        for (const tab of ["txt2img", "img2img"]) {
            const button = byId(tab + "_lora_extra_refresh_internal");
            if (button) button.click();
        }
    }

    // Steps and time follow the form: when a field is left and something in the form differs, the plan is made again.
    // One question at a time, as gradio drops a click on a button whose last one is not answered yet; one that stays
    // without an answer is asked again.
    let planned = null, asking = null, pending = 0, plannedAt = 0, planThen = null;

    function planMark() {
        const answer = document.querySelector("#lora_lab_train_plan [data-plan]");
        return answer ? answer.dataset.plan : "";
    }

    function formText() {
        const fields = document.querySelectorAll("#lora_lab_train_form input, #lora_lab_train_form textarea");
        return Array.from(fields, (f) => f.type === "checkbox" ? f.checked : f.value).join("\u0000");
    }

    // A button keeps the focus after a click, and what it has changed is to be planned at once.
    function typing(form) {
        const active = document.activeElement;
        return active && form.contains(active) && active.matches("input, textarea");
    }

    function replan() {
        const text = formText();
        if (planned === null) planned = text; // the form as it comes, before anything was typed or sent to it
        if (asking !== null && planMark() !== planThen) {
            planned = asking;
            asking = null;
        }
        if (text === planned || !shown(byId("lora_lab_train_form"))) return;
        if (asking !== null && Date.now() - plannedAt < PATIENCE) return;
        asking = text;
        plannedAt = Date.now();
        planThen = planMark();
        byId("lora_lab_train_replan").click();
    }

    function replanSoon(event) {
        if (!event.target.closest || !event.target.closest("#lora_lab_train_form")) return;
        clearTimeout(pending);
        pending = setTimeout(replan, PAUSE);
    }

    // "use in txt2img": the prompt is put behind what stands there, and the tab is switched.
    function useInPrompt(text) {
        const area = document.querySelector("#txt2img_prompt textarea");
        if (!area) return false;
        if (!area.value.includes(text)) {
            const before = area.value.trim().replace(/,$/, "");
            area.value = before ? before + ", " + text : text;
        }
        if (typeof updateInput === "function") updateInput(area);
        else area.dispatchEvent(new Event("input", {bubbles: true}));
        if (typeof switch_to_txt2img === "function") switch_to_txt2img();
        return true;
    }

    function copy(text) {
        if (navigator.clipboard && window.isSecureContext) {
            navigator.clipboard.writeText(text);
            return;
        }
        const area = document.createElement("textarea"); // plain http: the old way
        area.value = text;
        document.body.appendChild(area);
        area.select();
        document.execCommand("copy");
        area.remove();
    }

    function clicked(event) {
        if (!event.target.closest) return;
        if (event.target.closest("#lora_lab_train_start")) startedAt = Date.now();
        const cancel = event.target.closest(".lora-lab-cancel");
        if (cancel) {
            window.loraLab.waiting = cancel.dataset.run;
            cancel.disabled = true;
            byId("lora_lab_train_cancel").click();
        }
        const move = event.target.closest(".lora-lab-move");
        if (move) {
            window.loraLab.waiting = move.dataset.act + " " + move.dataset.run;
            byId("lora_lab_train_cancel").click();
        }
        const button = event.target.closest(".lora-lab-use");
        if (!button) return;
        const text = button.dataset.prompt;
        if (button.dataset.target === "txt2img" && useInPrompt(text)) return;
        copy(text);
        const word = button.textContent;
        button.textContent = "copied";
        setTimeout(() => { button.textContent = word; }, 1500);
    }

    // Tooltips: unit, cost, kohya's default of settings; what buttons, folds and tabs are for.
    const tabs = new Map(); // a tab's panel -> its tooltip: gradio makes the buttons anew at each choice
    const titled = new WeakSet();

    function hint() {
        for (const holder of document.querySelectorAll(".lora-lab-hints[data-hints]")) {
            const texts = JSON.parse(holder.dataset.hints);
            const names = Object.keys(texts).filter(byId);
            if (!names.length) continue;
            for (const name of names) entitle(byId(name), texts[name]);
            holder.removeAttribute("data-hints");
        }
        for (const [panel, text] of tabs) {
            const all = Array.from(panel.parentElement.children).filter((one) => one.classList.contains("tabitem"));
            const button = panel.parentElement.querySelector(".tab-nav").children[all.indexOf(panel)];
            if (button && !titled.has(button)) button.title = text;
            if (button) titled.add(button);
        }
    }

    // Over the head of a fold or the button of a tab, not over all that is inside.
    function entitle(element, text) {
        if (element.classList.contains("tabitem")) tabs.set(element, text);
        else (element.querySelector(".label-wrap") || element).title = text;
    }

    document.addEventListener("click", clicked);
    document.addEventListener("change", replanSoon);
    document.addEventListener("focusout", replanSoon);
    setInterval(() => {
        if (!byId("lora_lab_root")) return;
        hint();
        ask();
        refreshCards();
        const form = byId("lora_lab_train_form");
        if (form && !typing(form)) replan();
    }, TICK);
})();
