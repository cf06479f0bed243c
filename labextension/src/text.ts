// Amounts, rates and times as the pages and the command line write them. Amounts stay integers:
// micro-units and nano-units are far below 2^53, where a number would lose its unit.

/** Return micro-units exactly, with at least two decimals: `$0.51`, `0.000228 EUR`. */
export function formatMoney(micro: number, currency: string | null): string {
  return name(money(micro, 6), currency);
}

/** Return micro-units as a bar has room for: to the cent, and `<$0.01` for less. */
export function formatShort(micro: number, currency: string | null): string {
  const sign = micro < 0 ? '-' : '';
  const cents = Math.floor(Math.abs(micro) / 10_000);
  if (cents === 0 && micro !== 0) {
    return `${sign}<${name('0.01', currency)}`;
  }
  return sign + name(`${group(Math.floor(cents / 100))}.${String(cents % 100).padStart(2, '0')}`, currency);
}

/** Return a word for how little is left, empty while there is enough: never colour alone. */
export function describeLeft(left: number, limit: number): string {
  if (left * 10 <= limit) {
    return 'nearly spent';
  }
  return left * 4 <= limit ? 'low' : '';
}

/** Return nano-units per hour exactly: `$0.041/h`, `0.041 EUR/h`. */
export function formatRate(nano: number, currency: string | null): string {
  return `${name(money(nano, 9), currency)}/h`;
}

/** Return whole seconds as a person reads them: `9 s`, `4 min 10 s`, `1 h 13 min`. */
export function formatDuration(seconds: number): string {
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  if (hours > 0) {
    return `${group(hours)} h ${minutes % 60} min`;
  }
  return minutes > 0 ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
}

/** Return a time of the browser's clock as `15:53`. */
export function formatClock(atMs: number): string {
  const at = new Date(atMs);
  const two = (part: number) => String(part).padStart(2, '0');
  return `${two(at.getHours())}:${two(at.getMinutes())}`;
}

function money(units: number, decimals: number): string {
  const sign = units < 0 ? '-' : '';
  const scale = 10 ** decimals;
  const whole = Math.floor(Math.abs(units) / scale);
  const rest = String(Math.abs(units) % scale).padStart(decimals, '0');
  return `${sign}${group(whole)}.${rest.replace(/0+$/, '').padEnd(2, '0')}`;
}

function name(amount: string, currency: string | null): string {
  if (currency !== 'USD') {
    return `${amount} ${currency ?? ''}`.trim();
  }
  return amount.startsWith('-') ? `-$${amount.slice(1)}` : `$${amount}`;
}

function group(whole: number): string {
  return String(whole).replace(/\B(?=(\d{3})+$)/g, ',');
}
