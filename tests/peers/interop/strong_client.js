// strong-soap calls the gateway: WSDL URL, port, API key, WSSE user and password or "-", the call as JSON. Prints what it got as JSON.
const { soap } = require('strong-soap');
const [url, port, key, user, password, call] = process.argv.slice(2);
const headers = { 'X-Api-Key': key };
const fail = (error) => { console.error(error.message); process.exit(1); };
soap.createClient(url, { wsdl_headers: headers, forceSoapVersion: port.endsWith('12') ? '1.2' : '1.1' }, (error, client) => {
  if (error) return fail(error);
  if (user !== '-') client.setSecurity(new soap.WSSecurity(user, password, { passwordType: 'PasswordDigest', hasNonce: true }));
  const service = Object.keys(client.wsdl.services)[0];
  client[service][port].Submit(JSON.parse(call), (error, answer) => {
    if (!error) return console.log(JSON.stringify({ ok: answer }));
    const fault = error.root && error.root.Envelope.Body.Fault;
    if (!fault) return fail(error);
    const { faultstring, faultcode, detail, Reason, Code, Detail } = fault;
    console.log(JSON.stringify({ fault: faultstring || Reason.Text, code: faultcode || Code.Value, detail: detail || Detail }));
  }, null, headers);
});
