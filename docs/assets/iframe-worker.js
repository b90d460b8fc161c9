/* The site's search runs in a worker, which browsers do not start for pages opened from the file system.
 * For these pages this runs it in a hidden frame instead, so that search works without a server. The
 * theme's own way is a script from the network. */
if (location.protocol === "file:") {
  window.IFrameWorker = class IFrameWorker extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.appendChild(frame);
      this.scope = frame.contentWindow;
      const page = frame.contentDocument;
      const load = (address) =>
        new Promise((resolve, reject) => {
          const script = page.createElement("script");
          script.src = new URL(address, document.baseURI);
          script.onload = resolve;
          script.onerror = () => reject(new Error(`${script.src} cannot be loaded`));
          page.body.appendChild(script);
        });
      this.scope.postMessage = (data) =>
        this.dispatchEvent(new MessageEvent("message", { data }));
      this.scope.importScripts = (...addresses) =>
        addresses.reduce((before, next) => before.then(() => load(next)), Promise.resolve());
      this.loaded = load(url);
    }

    postMessage(data) {
      this.loaded.then(() => this.scope.dispatchEvent(new MessageEvent("message", { data })));
    }
  };
  window.Worker = window.IFrameWorker;
}
