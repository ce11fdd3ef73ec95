// node-redis: automatic pipelines, transactions, publish and subscribe, streams.
const assert = require('assert');
const { createClient, commandOptions } = require('redis');

async function main(port) {
    const options = { socket: { port, host: '127.0.0.1', reconnectStrategy: false } };
    const r = createClient(options);
    await r.connect();
    assert.strictEqual(await r.ping(), 'PONG');
    const numbers = [...Array(1000).keys()];
    await Promise.all(numbers.map((i) => r.set(`k${i}`, String(i))));
    assert.deepStrictEqual(await Promise.all(numbers.map((i) => r.get(`k${i}`))), numbers.map(String));
    assert.deepStrictEqual(await r.multi().set('a', '1').incr('a').mGet(['a', 'none']).exec(), ['OK', 2, ['2', null]]);
    await r.hSet('h', { f: 'v', g: '2' });
    assert.deepStrictEqual({ ...(await r.hGetAll('h')) }, { f: 'v', g: '2' });
    await r.zAdd('z', [{ score: 1.5, value: 'm' }]);
    assert.deepStrictEqual(await r.zRangeWithScores('z', 0, -1), [{ score: 1.5, value: 'm' }]);
    const found = new Set();
    for await (const key of r.scanIterator({ MATCH: 'k*', COUNT: 50 })) found.add(key);
    assert.strictEqual(found.size, 1000);

    const subscriber = r.duplicate();
    await subscriber.connect();
    const messages = [];
    let heard;
    const all = new Promise((resolve) => (heard = resolve));
    const take = (message) => messages.push(message) === 20 && heard();
    await subscriber.subscribe('c', take);
    for (let i = 0; i < 20; i++) assert.strictEqual(await r.publish('c', String(i)), 1);
    await all;
    assert.deepStrictEqual(messages, [...Array(20).keys()].map(String));

    const popped = r.blPop(commandOptions({ isolated: true }), ['q', 'p'], 60);
    await r.rPush('p', 'job');
    assert.deepStrictEqual({ ...(await popped) }, { key: 'p', element: 'job' });

    await r.watch('a');
    const other = r.duplicate();
    await other.connect();
    await other.set('a', 'changed');
    await assert.rejects(r.multi().get('a').exec(), { name: 'Error' });

    const id = await r.xAdd('x', '*', { f: 'v' });
    assert.strictEqual((await r.xRange('x', '-', '+'))[0].id, id);
    const read = r.xRead(commandOptions({ isolated: true }), [{ key: 'x', id: '$' }], { BLOCK: 60000 });
    while (!(await r.info('clients')).includes('blocked_clients:1')) await new Promise((ok) => setTimeout(ok, 5));
    const next = await r.xAdd('x', '*', { f: 'w' });
    assert.strictEqual((await read)[0].messages[0].id, next);
    await assert.rejects(r.lPush('a', 'x'), /WRONGTYPE/);
    await r.flushAll();
    await Promise.all([r.quit(), other.quit(), subscriber.disconnect()]);
}

main(Number(process.argv[2])).catch((error) => {
    console.error(error);
    process.exit(1);
});
