// LoRA Lab's tab: asks for news while it is shown, sends prompts to txt2img, puts tooltips on the settings.
// Works in the webui and standalone: what the webui has (updateInput, switch_to_txt2img) is used only where it is there.
(function () {
    "use strict";
    if (window.loraLab) return;
    window.loraLab = true;

    const TICK = 500, BUSY = 1000, IDLE = 3000, PATIENCE = 10000, PAUSE = 350; // milliseconds
    const byId = (id) => document.getElementById(id);
    const shown = (element) => Boolean(element) && element.getClientRects().length > 0;

    let asked = 0; // when news was asked for last
    let beatThen = null; // the answer that was there at that time

    function pulse() {
        const span = document.querySelector("#lora_lab_live_pulse [data-beat]");
        return span ? span.dataset : {beat: "", active: "1"};
    }

    // One question at a time; every second while a run is under way, else now and then; none while the tab is hidden.
    function ask() {
        if (document.visibilityState !== "visible" || !shown(byId("lora_lab_root"))) return;
        const button = byId("lora_lab_live_poll");
        const now = Date.now(), heart = pulse();
        const unanswered = heart.beat === beatThen;
        const wait = unanswered ? PATIENCE : heart.active === "1" ? BUSY : IDLE;
        if (!button || now - asked < wait) return;
        asked = now;
        beatThen = heart.beat;
        button.click();
    }

    // Steps and time follow the form: when a field is left and something in the form differs, the plan is made again.
    // One question at a time, as gradio drops a click on a button whose last one is not answered yet.
    let planned = null, pending = 0, plannedAt = 0, planThen = null;

    function planMark() {
        const answer = document.querySelector("#lora_lab_train_plan [data-plan]");
        return answer ? answer.dataset.plan : "";
    }

    function formText() {
        const fields = document.querySelectorAll("#lora_lab_train_form input, #lora_lab_train_form textarea");
        return Array.from(fields, (f) => f.type === "checkbox" ? f.checked : f.value).join("\u0000");
    }

    function replan() {
        const text = formText();
        if (planned === null) planned = text; // the form as it comes, before anything was typed or sent to it
        if (text === planned || !shown(byId("lora_lab_train_form"))) return;
        if (planMark() === planThen && Date.now() - plannedAt < PATIENCE) return;
        planned = text;
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
        const button = event.target.closest && event.target.closest(".lora-lab-use");
        if (!button) return;
        const text = button.dataset.prompt;
        if (button.dataset.target === "txt2img" && useInPrompt(text)) return;
        copy(text);
        const word = button.textContent;
        button.textContent = "copied";
        setTimeout(() => { button.textContent = word; }, 1500);
    }

    // Tooltips of the settings: unit, cost, kohya's default.
    function hint() {
        for (const holder of document.querySelectorAll(".lora-lab-hints[data-hints]")) {
            const texts = JSON.parse(holder.dataset.hints);
            const names = Object.keys(texts).filter(byId);
            if (!names.length) continue;
            for (const name of names) byId(name).title = texts[name];
            holder.removeAttribute("data-hints");
        }
    }

    document.addEventListener("click", clicked);
    document.addEventListener("change", replanSoon);
    document.addEventListener("focusout", replanSoon);
    setInterval(() => {
        if (!byId("lora_lab_root")) return;
        hint();
        ask();
        const form = byId("lora_lab_train_form");
        if (form && !form.contains(document.activeElement)) replan();
    }, TICK);
})();
