# What packaging/elastic/logstash makes of records, without Logstash, which Debian does not carry: a line `SEVERITY RECORD` each on
# standard input, a request of Elasticsearch's bulk API each on standard output. logstash.rb CLASSES

require 'json'

# As much of Logstash's event as the script asks for.
class Event
  attr_reader :id

  def initialize(fields)
    @fields = fields
  end

  def get(path)
    path.delete_prefix('[').delete_suffix(']').split('][').reduce(@fields) { |at, name| at && at[name] }
  end

  def set(path, value)
    return @id = value if path.start_with?('[@metadata]')

    @fields[path.delete_prefix('[').delete_suffix(']')] = value
  end

  def remove(name)
    @fields.delete(name)
  end

  def to_hash
    @fields
  end
end

module LogStash
  # It is written as it was read.
  Timestamp = Struct.new(:text)
end

# As the filter does it: what the script defines is an object's own.
path = File.expand_path('../packaging/elastic/logstash/lockdownd-ecs.rb', __dir__)
script = Object.new
script.instance_eval(File.read(path), path)
script.register('classes' => ARGV.fetch(0))
noise = Event.new('message' => '{"no": "record"}')
raise 'a message that is no record was kept' unless script.filter(noise).empty?

$stdin.each_line do |line|
  severity, record = line.chomp.split(' ', 2)
  event = Event.new('message' => " #{record}", '@version' => '1', 'type' => 'syslog',
                    'log' => { 'syslog' => { 'severity' => { 'code' => severity.to_i } } })
  documents = script.filter(event).map(&:to_hash)
  raise "#{documents.length} documents" unless documents.length == 1

  document = documents[0]
  document.delete('@version')
  document['@timestamp'] = document['@timestamp'].text
  puts JSON.generate('create' => { '_index' => 'logs-lockdownd.record-default', '_id' => event.id }), JSON.generate(document)
end
