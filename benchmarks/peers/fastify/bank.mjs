// The bank's transfer in Fastify and node-postgres, statement by statement, as a careful team writes it in Node: the
// accounts are locked in the order of their ids, the rules are checked under the lock and the limits of a balance by
// the database too, each transfer has its two entries, and the reply is sent after the commit. Every statement is
// prepared. There is no Idempotency-Key and no guard.
//
//     DATABASE_URL=postgresql://... node bank.mjs PORT

import Fastify from "fastify";
import pg from "pg";

const LARGEST = Number.MAX_SAFE_INTEGER;
const POOL = 16;
const INT8 = 20; // its type in Postgres; node-postgres gives it as a string, and none here is larger than LARGEST

pg.types.setTypeParser(INT8, Number);

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, min: POOL, max: POOL });

const LOCK = {
  name: "lock",
  text: "SELECT id, currency, balance, floor FROM accounts WHERE id IN ($1, $2) ORDER BY id FOR NO KEY UPDATE",
};
const MOVE = { name: "move", text: "UPDATE accounts SET balance = balance + $2 WHERE id = $1" };
const POST = {
  name: "post",
  text:
    "INSERT INTO transfers (debtor, creditor, currency, amount, reference) VALUES ($1, $2, $3, $4, $5)" +
    " RETURNING id, posted_at",
};
const ENTER = {
  name: "enter",
  text: "INSERT INTO entries (transfer, account, amount) VALUES ($1, $2, $3), ($1, $4, $5)",
};

const identifier = { type: "integer", minimum: 1, maximum: LARGEST };
const amount = { type: "integer", minimum: 1, maximum: LARGEST };
const currency = { type: "string", enum: ["EUR", "GBP", "JPY", "KWD", "USD"] };
const schema = {
  body: {
    type: "object",
    additionalProperties: false,
    required: ["debtor", "creditor", "currency", "amount"],
    properties: {
      debtor: identifier,
      creditor: identifier,
      currency,
      amount,
      reference: { type: "string", maxLength: 140, pattern: "^\\P{Cc}*$", default: "" },
    },
  },
  response: {
    201: {
      type: "object",
      properties: {
        id: { type: "integer" },
        debtor: { type: "integer" },
        creditor: { type: "integer" },
        currency: { type: "string" },
        amount: { type: "integer" },
        reference: { type: "string" },
        reverses: { type: "null" },
        posted_at: { type: "string" },
      },
    },
  },
};

class Refused extends Error {
  constructor(status, reason) {
    super(reason);
    this.statusCode = status;
  }
}

function check(order, accounts) {
  const debtor = accounts.find((account) => account.id === order.debtor);
  const creditor = accounts.find((account) => account.id === order.creditor);
  if (!debtor || !creditor) throw new Refused(422, "an account does not exist");
  if (debtor.currency !== order.currency || creditor.currency !== order.currency)
    throw new Refused(422, "an account is kept in another currency");
  if (debtor.balance - order.amount < debtor.floor)
    throw new Refused(409, "the debtor's balance does not cover the amount");
  if (creditor.balance + order.amount > LARGEST) throw new Refused(422, "the creditor's balance would be too large");
}

async function post(order) {
  const { debtor, creditor, currency, amount, reference } = order;
  if (debtor === creditor) throw new Refused(422, "debtor and creditor are the same account");
  const client = await pool.connect();
  let broken = false;
  try {
    await client.query("BEGIN");
    const accounts = await client.query({ ...LOCK, values: [debtor, creditor] });
    check(order, accounts.rows);
    await client.query({ ...MOVE, values: [debtor, -amount] });
    await client.query({ ...MOVE, values: [creditor, amount] });
    const posted = await client.query({ ...POST, values: [debtor, creditor, currency, amount, reference] });
    const { id, posted_at } = posted.rows[0];
    await client.query({ ...ENTER, values: [id, debtor, -amount, creditor, amount] });
    await client.query("COMMIT");
    return { id, debtor, creditor, currency, amount, reference, reverses: null, posted_at: posted_at.toISOString() };
  } catch (error) {
    await client.query("ROLLBACK").catch(() => {
      broken = true;
    });
    throw error;
  } finally {
    client.release(broken);
  }
}

const app = Fastify({ ajv: { customOptions: { removeAdditional: false, coerceTypes: false } } });

app.setErrorHandler((error, request, reply) => {
  reply.code(error.validation ? 422 : (error.statusCode ?? 500)).send({ detail: error.message });
});
app.get("/ready", async () => ({}));
app.post("/transfers", { schema }, async (request, reply) => {
  reply.code(201);
  return post(request.body);
});

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, async () => {
    await app.close();
    await pool.end();
  });
}
await app.listen({ host: "127.0.0.1", port: Number(process.argv[2]) });
