// Before the first paint: a light page must not flash in a dark room.
document.documentElement.dataset.theme = localStorage.getItem("theme") ?? "auto";
