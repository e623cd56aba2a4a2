# Of a message that lockdownd-shipper gave to syslog: a document of the Elastic Common Schema. For Logstash's ruby filter.

require 'json'

NANOSECONDS = 1_000_000_000
LEVELS = %w(emerg alert crit err warning notice info debug).freeze

def register(params)
  table = JSON.parse(File.read(params['classes']))
  @classes = table['table'].to_h { |row| [row['index'], row['value']] }
  @classes.default = table['nomatch']
end

# What is no record is dropped.
def filter(event)
  line = event.get('message').to_s.strip
  record = begin
    JSON.parse(line)
  rescue JSON::ParserError
    nil
  end
  return [] unless record.is_a?(Hash) && record['signature']

  found = document(record, line, event.get('[log][syslog][severity][code]').to_i)
  (event.to_hash.keys - ['@timestamp', '@version']).each { |name| event.remove(name) }
  event.set('@timestamp', LogStash::Timestamp.new(record['time']))
  found.each { |name, value| event.set("[#{name}]", value) }
  # Its own part of the signature, so that no other record takes its place.
  event.set('[@metadata][lockdownd]', "#{record['ledger']}/#{record['seq']}/#{record['signature'][243, 40]}")
  [event]
end

def document(record, line, severity)
  host = { 'name' => record['host'], 'hostname' => record['host'] }
  source = record['source'] || {}
  actor = record['actor'] || {}
  {
    'ecs' => { 'version' => '8.11.0' },
    'message' => record['reason'],
    'log' => { 'level' => LEVELS[severity] },
    'event' => event_of(record, line, severity),
    'host' => host,
    'source' => { 'address' => source['address'], 'ip' => source['address'], 'port' => source['port'] },
    'process' => { 'pid' => actor['pid'], 'executable' => actor['exe'] },
    'file' => { 'path' => record.dig('detail', 'path') },
    'user' => user_of(record, actor),
    'lockdownd' => own(record, actor),
  }.transform_values { |value| pruned(value) }.reject { |_, value| value == {} }
end

def event_of(record, line, severity)
  detail = record['detail'] || {}
  seconds = detail['seconds'] if login?(record)
  JSON.parse(@classes[record['type']]).merge(
    'id' => "#{record['ledger']}/#{record['seq']}", 'action' => record['type'], 'module' => 'lockdownd',
    'dataset' => 'lockdownd.record', 'sequence' => record['seq'], 'severity' => severity, 'original' => line,
    'reason' => detail['why'] || detail['ended'], 'start' => detail['since'], 'end' => detail['until'],
    'duration' => seconds && (seconds * NANOSECONDS)
  )
end

def login?(record)
  record['type'].start_with?('session.') || %w(login.failed emergency.login).include?(record['type'])
end

# Of a login it is the account that somebody came in by; else the one who acted, and the account that it was done to.
def user_of(record, actor)
  account = record['account'] || record.dig('detail', 'given_account')
  return { 'name' => account } if login?(record)

  { 'name' => actor['person'], 'id' => actor['uid']&.to_s, 'target' => { 'name' => account } }
end

def own(record, actor)
  own = %w(ledger stack boot person account grant session fingerprint).to_h { |name| [name, record[name]] }
  own.merge(
    'source' => "/stacks/#{record['stack']}/hosts/#{record['host']}",
    'count' => record.dig('detail', 'count') || 1,
    'actor' => { 'uid' => actor['uid'], 'login_uid' => actor['login_uid'], 'person' => actor['person'] },
    'detail' => record['detail']
  )
end

# Without what is not there; what a record says in `detail` stands as it is.
def pruned(value)
  return value unless value.is_a?(Hash)

  kept = value.to_h { |name, inner| [name, name == 'detail' ? inner : pruned(inner)] }
  kept.reject { |_, inner| inner.nil? || inner == {} }
end
