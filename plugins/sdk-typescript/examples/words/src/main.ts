// Serves the plugin to the mesh that started this process.
import { plugin } from "./plugin.js";

await plugin.serve();
