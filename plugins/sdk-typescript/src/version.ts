// What this SDK calls itself.

/** Name and version, for the mesh's logs. */
export const SDK = "typescript 0.1.0";
