# A stand-in for Chef Infra Client, which Debian does not carry: as much of its resources, run contexts, notifications and
# delayed actions as the cookbook uses, written from Chef's documentation and from reading its source. It shows that the
# cookbook's own code does what it says when it is evaluated; it does not show that Chef itself takes it.
#
# Real are: the cookbook's Ruby, its templates (rendered by ERB or by Erubis, which is what Chef has), the files, the
# commands (`lockdownctl check`, `systemctl reload`), and chef-utils, which Debian does carry. Packages are only noted, never installed.

require 'English'
require 'chef-utils'
require 'erb'
require 'erubis'
require 'fileutils'
require 'open3'
require 'tempfile'

class Chef
  module Exceptions
    class ValidationFailed < ArgumentError; end
    class ResourceNotFound < RuntimeError; end
  end

  class Log
    LINES = []

    def self.warn(line)
      LINES << line
    end
  end

  class Config
    def self.[](key)
      { file_cache_path: '/var/cache/chef', why_run: World.why_run }.fetch(key)
    end
  end

  # Where files are written and commands run: in an instance, by a prefix for each.
  class World
    class << self
      attr_accessor :root, :enter, :engine, :cookbook, :why_run

      def path(path)
        "#{root}#{path}"
      end

      def run(*command)
        out, err, status = Open3.capture3(*enter, *command)
        [status.success?, "STDOUT: #{out}\nSTDERR: #{err}\n"]
      end

      def run!(*command)
        ok, said = run(*command)
        raise "#{command.join(' ')} failed:\n#{said}" unless ok
      end

      def out!(*command)
        out, err, status = Open3.capture3(*enter, *command)
        raise "#{command.join(' ')} failed:\nSTDOUT: #{out}\nSTDERR: #{err}" unless status.success?

        out
      end
    end
  end

  Notification = Struct.new(:resource, :action)

  # Attributes by level, as Chef merges them: what a node object kept is united with what -j says, lists included (the level
  # normal). Of two levels the higher one wins, hashes aside; a nil in it says nothing.
  class Node
    attr_reader :normal_attrs

    # `roles` stands for what policies, roles and wrappers say, one level above the cookbook's own.
    def initialize(cookbook, roles, kept, json)
      @normal_attrs = unite(kept, json)
      @merged = [roles, normal_attrs].inject(cookbook) { |below, above| over(below, above) }
    end

    def [](name)
      @merged[name]
    end

    private

    def unite(ours, theirs)
      return ours if theirs.nil?
      return ours | theirs if ours.is_a?(Array) && theirs.is_a?(Array)
      return theirs unless ours.is_a?(Hash) && theirs.is_a?(Hash)

      ours.merge(theirs) { |_, a, b| unite(a, b) }
    end

    def over(below, above)
      return below if above.nil?
      return above unless below.is_a?(Hash) && above.is_a?(Hash)

      below.merge(above) { |_, a, b| over(a, b) }
    end
  end

  class RunContext
    attr_reader :node, :data_bags, :resources, :delayed, :parent, :unified_mode, :report

    def initialize(node, data_bags, parent: nil, unified_mode: false, report: [])
      @node = node
      @data_bags = data_bags
      @parent = parent
      @unified_mode = unified_mode
      @resources = []
      @delayed = []
      @report = report
    end

    def root
      parent ? parent.root : self
    end

    def child(unified_mode)
      RunContext.new(node, data_bags, parent: self, unified_mode: unified_mode, report: report)
    end

    def find(type, name)
      found = resources.reverse.find { |resource| resource.class.type == type && resource.name == name }
      found || (parent ? parent.find(type, name) : raise(Exceptions::ResourceNotFound, "#{type}[#{name}]"))
    end

    def delay(resource, action)
      notification = Notification.new(resource, action)
      delayed << notification unless delayed.include?(notification)
    end

    # All resources, those that come in meanwhile included, and then what was delayed: after a failure too.
    def converge
      n = -1
      resources[n].run_all while (n += 1) < resources.length
    rescue Exception => e # rubocop:disable Lint/RescueException
      run_delayed(e)
    else
      run_delayed(nil)
    end

    def run_delayed(error)
      failures = [error].compact
      delayed.each do |notification|
        notification.resource.run_action(notification.action)
      rescue StandardError => e
        failures << e
      end
      raise failures.first if failures.length == 1
      raise failures.map(&:message).join("\n") if failures.length > 1
    end
  end

  # What recipes and actions may say.
  module DSL
    include ChefUtils

    def with_run_context(which)
      before = @run_context
      @run_context = which == :root ? @run_context.root : which
      yield
    ensure
      @run_context = before
    end

    def declare_resource(type, name, &block)
      resource = Resource.types.fetch(type).new(name, @run_context)
      resource.cookbook_name = cookbook_name
      resource.recipe_name = recipe_name
      resource.instance_exec(&block) if block
      @run_context.resources << resource
      resource.run_all if @run_context.unified_mode
      resource
    end

    def edit_resource(type, name, &block)
      @run_context.find(type, name).tap { |resource| resource.instance_exec(&block) }
    rescue Exceptions::ResourceNotFound
      declare_resource(type, name, &block)
    end

    def node
      @run_context.node
    end

    def method_missing(name, *arguments, &block)
      Resource.types.key?(name) ? declare_resource(name, *arguments, &block) : super
    end

    def respond_to_missing?(name, all = false)
      Resource.types.key?(name) || super
    end
  end

  class Recipe
    include DSL
    attr_reader :cookbook_name, :recipe_name

    def initialize(cookbook_name, recipe_name, run_context)
      @cookbook_name = cookbook_name
      @recipe_name = recipe_name
      @run_context = run_context
    end

    def data_bag(bag)
      @run_context.data_bags.fetch(bag).keys
    end

    def data_bag_item(bag, id)
      @run_context.data_bags.fetch(bag).fetch(id).merge('chef_type' => 'data_bag_item', 'data_bag' => bag)
    end
  end

  class Provider
    include DSL
    attr_reader :new_resource

    def initialize(resource, run_context)
      @new_resource = resource
      @run_context = run_context
    end

    def cookbook_name
      new_resource.cookbook_name
    end

    def recipe_name
      new_resource.recipe_name
    end

    def whyrun_mode?
      World.why_run
    end

    Said = Struct.new(:stdout)

    def shell_out!(*command)
      Said.new(World.out!(*command))
    end
  end

  class Resource
    @types = {}

    class << self
      attr_reader :types, :type

      def inherited(sub)
        super
        sub.instance_variable_set(:@properties, {})
        sub.instance_variable_set(:@provider, Class.new(Provider))
      end

      attr_reader :properties, :provider

      def provides(type)
        @type = type
        Resource.types[type] = self
      end

      def unified_mode(flag = nil)
        @unified_mode = flag unless flag.nil?
        @unified_mode
      end

      def description(_text); end

      def default_action(action = nil)
        @default_action = action if action
        @default_action || :nothing
      end

      def property(name, type, **options)
        # Chef refuses these as well.
        taken = [Object, Resource, DSL].any? { |owner| owner.method_defined?(name) }
        raise ArgumentError, "property #{name} overwrites a method" if taken

        properties[name] = options.merge(types: [type].flatten)
        define_method(name) { |*given| given.empty? ? value_of(name) : set(name, given.first) }
      end

      def action(name, &block)
        # As Chef does: the first action becomes the default where the default is :nothing, also where somebody wrote so.
        default_action(name) if default_action == :nothing
        provider.define_method("action_#{name}", &block)
      end

      def action_class(&block)
        provider.class_eval(&block)
      end
    end

    attr_accessor :cookbook_name, :recipe_name, :updated
    attr_reader :name

    alias updated_by_last_action? updated

    def initialize(name, run_context)
      @name = name
      @run_context = run_context
      @values = {}
      @notifies = []
      self.class.properties.each { |property, options| set(property, name) if options[:name_property] }
    end

    def to_s
      "#{self.class.type}[#{name}]"
    end

    def action(*actions)
      @action = actions.flatten unless actions.empty?
      @action || [self.class.default_action]
    end

    def node
      @run_context.node
    end

    def delayed_action(action)
      @run_context.delay(self, action)
    end

    def notifies(action, name, timing = :delayed)
      raise "#{timing} is not in the stand-in" unless timing == :delayed

      @notifies << [action, *name.match(/\A(\w+)\[(.*)\]\z/m).captures]
    end

    def run_all
      action.each { |action| run_action(action) }
    end

    def run_action(action)
      return if action == :nothing

      self.class.properties.each do |name, options|
        # True, or the actions that need it.
        needed = options[:required] == true || [options[:required]].flatten.include?(action)
        raise Exceptions::ValidationFailed, "#{self}: Required properties are missing: #{name}" if needed && value_of(name).nil?
      end
      self.updated = false
      inner = @run_context.child(self.class.unified_mode)
      self.class.provider.new(self, inner).public_send("action_#{action}")
      inner.converge_delayed
      done if updated || inner.resources.any?(&:updated)
    rescue StandardError => e
      raise e.class, "#{self} (#{cookbook_name}::#{recipe_name}) had an error: #{e.message}" unless e.message.include?(' had an error: ')

      raise
    end

    private

    def done
      self.updated = true
      @run_context.report << to_s
      @notifies.each { |action, type, name| @run_context.find(type.to_sym, name).then { |resource| resource.delayed_action(action) } }
    end

    def value_of(name)
      options = self.class.properties.fetch(name)
      @values.fetch(name) { options[:default].freeze }
    end

    def set(name, value)
      options = self.class.properties.fetch(name)
      value = options[:coerce].call(value) if options[:coerce]
      unless options[:types].any? { |type| type === value }
        raise Exceptions::ValidationFailed,
              "#{self}: Property #{name} must be one of: #{options[:types].join(', ')}! You passed #{value.inspect}."
      end
      if options[:regex] && !options[:regex].match?(value)
        raise Exceptions::ValidationFailed, "#{self}: Property #{name} is not right: #{value.inspect}"
      end
      @values[name] = value
    end
  end

  class RunContext
    # What an action declared has run already, for it was in unified mode.
    def converge_delayed
      run_delayed(nil)
    end
  end

  # The context that a template is rendered in: its variables as instance variables, and its helpers.
  def self.render(source, variables, helpers)
    context = Object.new
    helpers.each { |helper| context.extend(helper) }
    variables.each { |name, value| context.instance_variable_set("@#{name}", value) }
    # Chef reads templates as bytes.
    template = File.binread(File.join(World.cookbook, 'templates', source))
    code = World.engine == 'erubis' ? Erubis::Eruby.new(template).src : ERB.new(template, trim_mode: '-').src
    context.instance_eval(code)
  end
end
