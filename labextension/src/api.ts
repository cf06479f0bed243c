// The console's answers, asked of this server's own extension, which alone holds a hub token.

import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

/** An instance as the console describes it; what a part did not tell is null. */
export interface Instance {
  id: string;
  cloud: string;
  region: string;
  size: string;
  cpu: string;
  gpu: string;
  state: string;
  reason: string;
  nano_per_hour: number | null;
  currency: string | null;
  seconds: number | null;
  amount_micro: number | null;
  is_healthy: boolean | null;
}

/** A dataset that the researcher was granted. */
export interface Dataset {
  name: string;
  title: string;
}

/** What another size would do. */
export interface Offer {
  cpu: string;
  gpu: string;
  disk: string;
}

/** What another size would do and cost whoever pays. */
export interface Price extends Offer {
  nano_per_hour: number;
}

/** A resize, as the console plans it. */
export interface Plan {
  now: Price;
  then: Price;
  more_nano_per_hour: number;
  currency: string;
}

/** The last resize of an instance. */
export interface Resize extends Offer {
  phase: string;
  asked_us: number;
  ended_us: number | null;
  outcome: string;
}

/** One size of one resource. */
export interface Size {
  resource: 'cpu' | 'gpu' | 'disk';
  size: string;
  gives: string;
  nano_per_hour: number | null;
  refusal: string;
  is_current: boolean;
}

/** Something that the researcher was told. */
export interface Notice {
  id: number;
  kind: string;
  subject: string;
  body: string;
}

/** What may still be spent, and of what; a currency other than USD is shown with its code. */
export interface Left {
  currency: string;
  left_micro: number;
  limit_micro: number;
  of: string;
}

/** What the side panel and the status bar show. */
export interface Status {
  instance: Instance | null;
  month_micro: number | null;
  currency: string | null;
  left: Left | null;
  audit: { files: number; reads: number; bytes: number; received_seq: number } | null;
  datasets: Dataset[];
  missing: string[];
  local: { datasets: string | null; data_refused: string | null; isolation: string[] } | null;
}

/** An error with a message for the person at the screen. */
export class Refused extends Error {}

/** Ask the extension; rejects with `Refused` and what it said. */
export async function ask<T>(
  settings: ServerConnection.ISettings,
  method: 'GET' | 'POST',
  name: string,
  body?: object
): Promise<T> {
  const [path, query] = name.split('?');
  const base = URLExt.join(settings.baseUrl, 'nightingale', 'api', path);
  const url = query ? `${base}?${query}` : base;
  const init: RequestInit = { method, cache: 'no-store' };
  if (method === 'POST') {
    init.body = JSON.stringify(body ?? {});
    init.headers = { 'Content-Type': 'application/json' };
  }
  let response: Response;
  try {
    response = await ServerConnection.makeRequest(url, init, settings);
  } catch {
    throw new Refused('The instance does not answer.');
  }
  const answer = await response.json().catch(() => null);
  if (!response.ok || answer === null) {
    throw new Refused(answer?.error?.message ?? `The instance answered ${response.status}.`);
  }
  return answer as T;
}
