// Text with a limit.

/** The text, cut to at most `limit` bytes of UTF-8 and marked as cut; what UTF-8 cannot say becomes U+FFFD. */
export function cut(text: string, limit: number): string {
  // No character takes less than one byte, so what is beyond the limit is not looked at.
  const sound = text.slice(0, limit + 1).toWellFormed();
  const bytes = Buffer.from(sound, "utf8");
  if (bytes.length <= limit && text.length <= limit) return sound;
  let end = limit - Buffer.byteLength("…");
  while (end > 0 && (bytes[end]! & 0xc0) === 0x80) end -= 1;
  return `${bytes.toString("utf8", 0, end)}…`;
}
