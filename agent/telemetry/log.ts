import pino, { type Logger } from 'pino';

/** The daemon's log: one JSON object a line on stdout. Messages are constant text. */
export function createLogger(level: string): Logger {
  return pino({
    level,
    base: { pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
  });
}
