// Puts the reader's own time beside each moment. Pages say all they have to say without it.
"use strict";
for (const time of document.querySelectorAll("time[datetime]")) {
  const at = new Date(time.dateTime);
  if (!Number.isNaN(at.getTime())) {
    const own = at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
    time.title = own + " where you are";
    if (time.closest("[data-own]")) {
      const beside = document.createElement("span");
      beside.className = "own";
      beside.textContent = " (" + own + " where you are)";
      time.after(beside);
    }
  }
}
