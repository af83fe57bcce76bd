(function () {
  "use strict";
  // The page may be days old, so show how long ago each run was by the reader's clock.
  Array.prototype.forEach.call(document.querySelectorAll(".age"), function (age) {
    var time = age.querySelector("time");
    var ago = age.querySelector(".ago");
    if (!time || !ago) { return; }
    var minutes = Math.floor((Date.now() - Date.parse(time.dateTime)) / 60000);
    if (!(minutes >= 0)) { return; }
    var steps = [[1440, "day"], [60, "hour"], [1, "minute"]];
    for (var place = 0; place < steps.length; place += 1) {
      var number = Math.floor(minutes / steps[place][0]);
      if (number >= 1 || steps[place][0] === 1) {
        ago.textContent = number + " " + steps[place][1] + (number === 1 ? "" : "s") + " ago";
        return;
      }
    }
  });
})();
