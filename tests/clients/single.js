// node-redis: automatic pipelines, transactions, publish and subscribe, streams.
const assert = require('assert');
const { createClient, commandOptions, defineScript } = require('redis');

// Called by its hash; sent once more when the server does not know it.
const total = defineScript({
    NUMBER_OF_KEYS: 2,
    SCRIPT: "return redis.call('incrby', KEYS[1], ARGV[1]) + redis.call('incrby', KEYS[2], ARGV[1])",
    transformArguments: (a, b, by) => [a, b, String(by)],
    transformReply: (reply) => reply,
});

// Scripts and functions, with keys on one core, on several, and unnamed.
async function scripts(r) {
    assert.strictEqual(await r.total('e1', 'e2', 3), 6);
    assert.strictEqual(await r.total('{e}1', '{e}2', 1), 2);
    assert.deepStrictEqual(await Promise.all([1, 2, 3].map(() => r.total('e1', 'e2', 1))), [8, 10, 12]);
    await r.scriptFlush();
    assert.deepStrictEqual(await r.multi().total('e1', 'e2', 1).get('e2').exec().catch((e) => e.message), [14, '7']);
    assert.strictEqual(await r.eval("return redis.call('get', 'e1')", {}), '7');
    assert.deepStrictEqual(await r.evalRo('return {KEYS[1], ARGV[1]}', { keys: ['k'], arguments: ['v'] }), ['k', 'v']);
    const sha = await r.scriptLoad("return redis.call('mget', KEYS[1], KEYS[2])");
    assert.deepStrictEqual(await r.scriptExists([sha, '0'.repeat(40)]), [true, false]);
    assert.deepStrictEqual(await r.evalSha(sha, { keys: ['e1', 'none'] }), ['7', null]);
    await assert.rejects(r.evalSha('0'.repeat(40), {}), /NOSCRIPT/);
    const code = "#!lua name=lib\nredis.register_function('add', function(keys, args) " +
        "return redis.call('incrby', keys[1], args[1]) + redis.call('incrby', keys[2], args[1]) end)\n" +
        "redis.register_function{function_name='look', callback=function(keys) return redis.call('get', keys[1]) end," +
        "flags={'no-writes'}}";
    assert.strictEqual(await r.functionLoad(code), 'lib');
    assert.strictEqual(await r.fCall('add', { keys: ['e1', 'e2'], arguments: ['1'] }), 16);
    assert.strictEqual(await r.fCallRo('look', { keys: ['e1'] }), '8');
    await assert.rejects(r.fCallRo('add', { keys: ['e1', 'e2'], arguments: ['1'] }), /write flag/);
    assert.strictEqual((await r.functionList())[0].libraryName, 'lib');
    const dump = await r.functionDump(commandOptions({ returnBuffers: true }));
    await r.functionDelete('lib');
    await assert.rejects(r.fCall('add', { keys: ['e1', 'e2'], arguments: ['1'] }), /Function not found/);
    await r.functionRestore(dump);
    assert.deepStrictEqual(await r.multi().fCall('add', { keys: ['e1', 'e2'], arguments: ['1'] }).get('e1').exec(), [18, '9']);
    await r.functionFlush();
}

async function main(port) {
    const options = { socket: { port, host: '127.0.0.1', reconnectStrategy: false }, scripts: { total } };
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
    await scripts(r);
    await r.flushAll();
    await Promise.all([r.quit(), other.quit(), subscriber.disconnect()]);
}

main(Number(process.argv[2])).catch((error) => {
    console.error(error);
    process.exit(1);
});
