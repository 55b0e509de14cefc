# SOAP::Lite calls the gateway, rpc/encoded and without its WSDL: address, API key, number, customer. Prints what it got as JSON.
use strict;
use warnings;
use utf8;
use Encode qw(decode_utf8);
use SOAP::Lite;
use JSON::PP;

my ($url, $key, $number, $customer) = map { decode_utf8($_) } @ARGV;
my $soap = SOAP::Lite->uri('urn:old')->proxy($url)->on_action(sub { '""' })->autotype(1);
$soap->transport->default_header('X-Api-Key' => $key);
$soap->on_fault(sub { $_[1] });
my @lines = map { SOAP::Data->name(item => \SOAP::Data->value(
    SOAP::Data->name(sku => $_->[0])->type('string'), SOAP::Data->name(qty => $_->[1])->type('int'))) } (['茶', 2], ['杯', 1]);
my $order = SOAP::Data->name(order => \SOAP::Data->value(
    SOAP::Data->name(no => $number)->type('string'),
    SOAP::Data->name(customer => $customer)->type('string'),
    SOAP::Data->name(total => $number =~ /^BAD/ ? 'viel' : '12345678901234567.89')->type('decimal'),
    SOAP::Data->name(paid => 1)->type('boolean'),
    SOAP::Data->name(lines => \SOAP::Data->value(@lines))));
my $answer = $soap->call(submit => SOAP::Data->name(token => 't')->type('string'), $order);
my $json = JSON::PP->new->utf8->canonical;
if (!ref $answer) { print $json->encode({ fault => "$answer" }) }
elsif ($answer->fault) { print $json->encode({ fault => $answer->faultstring, code => $answer->faultcode }) }
else { print $json->encode({ ok => $answer->result }) }
