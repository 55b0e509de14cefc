// strong-soap is called by the gateway: WSDL file and log file. Prints `ready PORT`; logs what it got as JSON lines.
// Orders whose number begins with BAD are refused.
const fs = require('fs'), http = require('http'), { soap } = require('strong-soap');
const [wsdl, log] = process.argv.slice(2);
const Submit = (order, done, header) => {
  fs.appendFileSync(log, JSON.stringify({ order, header }) + '\n');
  if (order.No.startsWith('BAD')) {
    const Fault = { faultcode: 'soap:Client', faultstring: '库存不足: out of stock', detail: { Refused: { Why: '<none> & nothing' } }, statusCode: 500 };
    throw { Fault };
  }
  return { Got: order.No, Count: [].concat(order.Lines.Line || []).length };
};
const services = { Orders: { Orders11: { Submit }, Orders12: { Submit } } };
const server = http.createServer((_, response) => { response.statusCode = 404; response.end(); });
server.listen(0, '127.0.0.1', () => {
  soap.listen(server, { path: '/orders', services, uri: wsdl, xml: fs.readFileSync(wsdl, 'utf8') });
  console.log('ready ' + server.address().port);
});
