// What the bench asks of Restate: durable handlers whose steps do nothing. PORT is the port to listen on.
import * as restate from "@restatedev/restate-sdk";

const chain = async (ctx, steps) => {
  for (let step = 0; step < steps; step += 1) await ctx.run(`s${step}`, () => step);
  return steps;
};

const bench = restate.service({
  name: "Bench",
  handlers: {
    one: (ctx) => chain(ctx, 1),
    ten: (ctx) => chain(ctx, 10),
    fan: async (ctx) => {
      const steps = Array.from({ length: 1000 }, (_, step) => ctx.run(`p${step}`, () => step));
      return (await restate.RestatePromise.all(steps)).length;
    },
    // A run that stays.
    hold: (ctx) => ctx.sleep({ hours: 1 }),
  },
});

restate.serve({ services: [bench], port: Number(process.env.PORT ?? 9080) });
