// What goes on now, without loading the page again. Without this script the page shows the moment it was made.
"use strict";
(() => {
  const place = document.querySelector("[data-live]");
  if (!place || place.hasAttribute("data-over")) return;
  let busy = place.children.length > 0;
  const again = async () => {
    try {
      const answer = await fetch(location.href, { headers: { "X-Requested-With": "live" }, credentials: "same-origin" });
      if (answer.ok && !answer.redirected) {
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const id of ["live", "headline", "deeds"]) {
          const now = fresh.getElementById(id), then = document.getElementById(id);
          if (now && then && now.outerHTML !== then.outerHTML) then.replaceWith(document.adoptNode(now));
        }
        document.title = fresh.title;
        busy = document.getElementById("live").children.length > 0;
        if (document.getElementById("live").hasAttribute("data-over")) return;
      }
    } catch (error) {
      busy = false; // the service is away: look again, but seldom
    }
    setTimeout(again, document.hidden ? 60000 : busy ? 2000 : 15000);
  };
  setTimeout(again, busy ? 2000 : 15000);
})();
