# Evaluates the cookbook as a converge would, by the stand-in: reads {"cookbook", "root", "enter", "engine", "node",
# "kept", "json", "why_run", "data_bags", "recipes": [Ruby, …]} as JSON, prints {"updated", "noted", "log", "error"} as JSON.

require 'json'
require_relative 'resources'

# What an attribute file says.
class Defaults
  attr_reader :attributes

  def initialize
    @attributes = Hash.new { |hash, key| hash[key] = Hash.new(&hash.default_proc) }
  end

  def default
    attributes
  end
end

def load_cookbook(dir)
  Dir[File.join(dir, 'libraries', '*.rb')].sort.each { |path| require path }
  Dir[File.join(dir, 'resources', '*.rb')].sort.each do |path|
    Class.new(Chef::Resource) { class_eval(File.read(path), path, 1) }
  end
  defaults = Defaults.new
  path = File.join(dir, 'attributes', 'default.rb')
  defaults.instance_eval(File.read(path), path, 1)
  defaults.attributes
end

# The recipe that the cookbook has, or Ruby of a cookbook called site.
def evaluate(recipe, run_context)
  if recipe == 'lockdownd::default'
    path = File.join(Chef::World.cookbook, 'recipes', 'default.rb')
    Chef::Recipe.new('lockdownd', 'default', run_context).instance_eval(File.read(path), path, 1)
  else
    Chef::Recipe.new('site', 'default', run_context).instance_eval(recipe, 'site::default', 1)
  end
end

def converge(asked)
  Chef::World.root = asked['root']
  Chef::World.enter = asked['enter']
  Chef::World.engine = asked['engine']
  Chef::World.cookbook = asked['cookbook']
  Chef::World.why_run = asked['why_run']
  node = Chef::Node.new(load_cookbook(asked['cookbook']), *%w(node kept json).map { |level| asked[level] || {} })
  run_context = Chef::RunContext.new(node, asked['data_bags'] || {})
  asked['recipes'].each { |recipe| evaluate(recipe, run_context) }
  run_context.converge
  { 'error' => nil, 'updated' => run_context.report }
rescue StandardError => e
  { 'error' => e.message, 'kind' => e.class.name, 'updated' => run_context ? run_context.report : [] }
end

if $PROGRAM_NAME == __FILE__
  result = converge(JSON.parse($stdin.read))
  puts JSON.generate(result.merge('noted' => Chef::NOTED, 'log' => Chef::Log::LINES))
end
