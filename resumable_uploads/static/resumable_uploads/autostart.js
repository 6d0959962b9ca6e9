/** Makes every uploader on the page work. */

import { mountAll } from "./widget.js";

mountAll();
