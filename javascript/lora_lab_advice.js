// Advice in the panel Train: buttons of rules, of recommended values and of the drawn examples, and which of these values
// the form has changed.
(function () {
    "use strict";
    const lab = window.loraLab = window.loraLab || {waiting: ""};
    if (lab.advice !== undefined) return;
    lab.advice = ""; // what the button that was pressed asks for
    const TICK = 700; // milliseconds

    function clicked(event) {
        const button = event.target.closest && event.target.closest(".lora-lab-advise");
        if (!button) return;
        lab.advice = button.dataset.advice;
        const act = document.getElementById("lora_lab_advice_act");
        if (act) act.click();
        if (button.value) return; // an example: no field of the form
        const again = document.getElementById("lora_lab_train_replan");
        if (again) setTimeout(() => again.click(), TICK); // silencing changes no field, so nobody else asks
    }

    // The example of the difficulty that is chosen, by a click on it or in the list.
    lab.mark = (chosen) => {
        for (const example of document.querySelectorAll("#lora_lab_advice_examples button")) {
            example.setAttribute("aria-pressed", String(example.value === chosen.charAt(0)));
        }
    };

    function held(name) {
        const field = document.querySelector("#lora_lab_train_" + name + " :is(input, textarea)");
        if (!field) return null;
        return field.type === "checkbox" ? (field.checked ? "on" : "off") : field.value;
    }

    function same(one, other) {
        if (one.trim() === other.trim()) return true;
        if (!one.trim() || !other.trim()) return false;
        return Number(one) === Number(other);
    }

    // A button 'back to recommended' is there only where the form holds another value.
    function mark() {
        for (const row of document.querySelectorAll("#lora_lab_advice_told tr[data-setting]")) {
            const now = held(row.dataset.setting);
            row.classList.toggle("lora-lab-changed", now !== null && !same(now, row.dataset.value));
        }
    }

    // A list that is drawn anew stays open where it was opened.
    const opened = new Map();

    function toggled(event) {
        const details = event.target;
        if (!details.matches || !details.matches("details.lora-lab-keep")) return;
        opened.set(details.querySelector("summary").textContent, details.open);
    }

    function reopen() {
        for (const details of document.querySelectorAll("details.lora-lab-keep")) {
            const open = opened.get(details.querySelector("summary").textContent);
            if (open !== undefined && details.open !== open) details.open = open;
        }
    }

    document.addEventListener("click", clicked);
    document.addEventListener("toggle", toggled, true);
    setInterval(() => { mark(); reopen(); }, TICK);
})();
