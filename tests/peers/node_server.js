// node-soap is called by the gateway: WSDL file and log file. Prints `ready PORT`; logs what it got as JSON lines.
// Orders whose number begins with BAD200 are refused by a fault in a 200, those with BAD500 by one in a 500.
const fs = require('fs'), http = require('http'), soap = require('soap');
const [wsdl, log] = process.argv.slice(2);
const fault = (statusCode, code, text) => ({ Fault: { faultcode: 'soap:' + code, faultstring: text, detail: { why: text }, statusCode } });
const Submit = (order) => {
  fs.appendFileSync(log, JSON.stringify(order) + '\n');
  if (order.No.startsWith('BAD200')) throw fault(200, 'Client', '库存不足: out of stock');
  if (order.No.startsWith('BAD500')) throw fault(500, 'Server', 'the database is away');
  return { Got: order.No, Count: [].concat(order.Lines.Line || []).length };
};
const service = { Orders: { Orders11: { Submit }, Orders12: { Submit } } };
const server = http.createServer((_, response) => { response.statusCode = 404; response.end(); });
server.listen(0, '127.0.0.1', () => {
  const callback = (error) => {
    if (error) throw error;
    console.log('ready ' + server.address().port);
  };
  soap.listen(server, { path: '/orders', services: service, uri: wsdl, xml: fs.readFileSync(wsdl, 'utf8'), callback });
});
