// cashu-ts as a process: one JSON command a line in, one JSON answer a line out. See scripts/_peers.py.
//
//     node cashu_ts.mjs MINT_URL PRIVATE_KEY_HEX

import { pbkdf2Sync } from 'node:crypto';
import { createInterface } from 'node:readline';
import {
  PaymentRequest,
  Wallet,
  decodePaymentRequest,
  getEncodedToken,
  getPubKeyFromPrivKey,
  getTokenMetadata,
  hasValidDleq,
} from '@cashu/cashu-ts';

const [url, privkey] = process.argv.slice(2);
const wallet = new Wallet(url);
await wallet.loadMint();
let proofs = [];

const hex = (bytes) => Buffer.from(bytes).toString('hex');
const total = (list) => list.reduce((sum, proof) => sum + Number(proof.amount), 0);

const commands = {
  pubkey: () => hex(getPubKeyFromPrivKey(Buffer.from(privkey, 'hex'))),

  async fund({ amount }) {
    const quote = await wallet.createMintQuoteBolt11(amount);
    proofs.push(...(await wallet.mintProofsBolt11(amount, quote)));
    return total(proofs);
  },

  async send({ amount, to, memo, blind }) {
    const output = to
      ? { send: { type: 'p2pk', options: { pubkey: to, blindKeys: blind } }, keep: { type: 'random' } }
      : undefined;
    const made = await wallet.send(amount, proofs, {}, output);
    proofs = made.keep;
    return getEncodedToken({ mint: url, unit: 'sat', memo, proofs: made.send });
  },

  async receive({ token }) {
    const got = await wallet.receive(token, { privkey, requireDleq: true });
    proofs.push(...got);
    return total(got);
  },

  decode({ token }) {
    const { mint, unit, memo } = getTokenMetadata(token);
    const { proofs: found } = wallet.decodeToken(token);
    const verified = found.every((proof) => hasValidDleq(proof, wallet.getKeyset(proof.id)));
    return { mint, unit, memo: memo ?? null, amounts: found.map((p) => Number(p.amount)), verified };
  },

  async restore({ words }) {
    const bip39seed = pbkdf2Sync(words.normalize('NFKD'), 'mnemonic', 2048, 64, 'sha512');
    const restored = new Wallet(url, { bip39seed });
    await restored.loadMint();
    const { proofs: found } = await restored.batchRestore();
    const { unspent } = await restored.groupProofsByState(found);
    return total(unspent);
  },

  encode_request({ version, id, amount, unit, mints, description, single_use, transports, lock }) {
    const request = new PaymentRequest(
      transports.map(({ kind, target, tags }) => ({ type: kind, target, tags })),
      id,
      amount,
      unit,
      mints,
      description,
      single_use,
      lock && { kind: lock.kind, data: lock.data, tags: lock.tags },
    );
    return version === 'A' ? request.toEncodedCreqA() : request.toEncodedCreqB();
  },

  decode_request({ text }) {
    const request = decodePaymentRequest(text);
    const { id, unit, mints, description, singleUse, transport, nut10 } = request;
    return {
      id,
      amount: request.amount === undefined ? null : Number(request.amount),
      unit,
      mints,
      description,
      single_use: singleUse,
      transports: (transport ?? []).map(({ type, target, tags }) => ({
        kind: type,
        target,
        tags: tags ?? [],
      })),
      lock: nut10 ? { kind: nut10.kind, data: nut10.data, tags: nut10.tags ?? [] } : null,
    };
  },
};

console.log(JSON.stringify({ answer: 'ready' }));
for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...given } = JSON.parse(line);
  try {
    console.log(JSON.stringify({ answer: (await commands[name](given)) ?? null }));
  } catch (error) {
    console.log(JSON.stringify({ error: `${error.name}: ${error.message}` }));
  }
}
