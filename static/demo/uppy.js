// Uppy before the app's endpoint: Dashboard, Tus and Golden Retriever.

import { endpoint, option } from "./shell.js";

const { Dashboard, GoldenRetriever, Tus, Uppy } = window.Uppy;

const uppy = new Uppy({ autoProceed: option("autoProceed", false) })
  .use(Dashboard, {
    inline: true,
    target: "#uppy",
    width: "100%",
    height: 420,
    fileManagerSelectionType: "both",
    showProgressDetails: true,
    proudlyDisplayPoweredByUppy: false,
    // They would be images from "blob:", which the site's policy does not let in.
    disableThumbnailGenerator: true,
  })
  .use(Tus, {
    endpoint,
    chunkSize: option("chunkSize", 64 * 1024 * 1024),
    limit: option("limit", 5),
    removeFingerprintOnSuccess: true,
  })
  // Finds the files of a page that was closed or reloaded again.
  .use(GoldenRetriever);

window.client = uppy;
