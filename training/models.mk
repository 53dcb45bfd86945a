# Trains and converts the three emotion models: `make models DATA=fer2013.csv` (fer2013new.csv with FER+'s votes beside it).
# A step that is done is not done again, one that was interrupted goes on behind its last epoch.
# By KERAS_BACKEND=torch about three hours of two free processor cores (514 pictures/s a core for the largest network),
# several times that beside other work. What ships was made with the differences that weights/README.md names.
TRAIN ?= mien-train
DATA ?= fer2013.csv
OUT ?= models
VERSION ?= 2.0.0
LICENCE ?= weights: Apache-2.0; labels FER+: MIT; pictures FER2013: web images for research
# Another number of epochs than each recipe's, and FORCE=1 to keep bundles that fail or cannot be judged: for a trial.
EPOCHS ?=
FORCE ?=

HERE := $(dir $(lastword $(MAKEFILE_LIST)))
BUNDLES = $(addprefix $(OUT)/bundles/emotion-,ferplus fer2013 nano)
run = --data $(OUT)/prepared.npz --out $(@D) $(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(wildcard $(@D)/checkpoint.npz),--resume)
export_run = $(TRAIN) export $(OUT)/$(1) --evaluate $(DATA)@split=public_test,labels=$(2) --out $(@D) --copies $(OUT)/copies.txt \
	--version $(VERSION) --licence "$(LICENCE)" $(if $(FORCE),--force || case $$? in (3|4) ;; (*) exit 1;; esac)

.DELETE_ON_ERROR:
.PHONY: models
models: $(addsuffix /manifest.json,$(BUNDLES))

$(OUT)/prepared.npz:
	mkdir -p $(OUT)
	$(TRAIN) prepare $(DATA) --validation 0.065 --cache $(OUT)/prepared > $(OUT)/prepare.log
	cp "$$(tail -n 1 $(OUT)/prepare.log)" $@

$(OUT)/copies.txt: $(OUT)/prepared.npz
	$(TRAIN) copies $(DATA) --of $(DATA)@split=train --out $@

$(OUT)/emotion/done: $(OUT)/prepared.npz
	$(TRAIN) fit emotion $(run)
	touch $@

$(OUT)/emotion_second/done: $(OUT)/emotion/done
	$(TRAIN) distill emotion_second --teacher $(OUT)/emotion $(run)
	touch $@

$(OUT)/emotion_fer2013/done: $(OUT)/emotion_second/done
	$(TRAIN) distill emotion_fer2013 --teacher $(OUT)/emotion --teacher $(OUT)/emotion_second --weights $(OUT)/emotion_second $(run)
	touch $@

$(OUT)/emotion_nano/done: $(OUT)/emotion_fer2013/done
	$(TRAIN) distill emotion_nano --teacher $(OUT)/emotion_fer2013 --weights $(HERE)weights/emotion_nano.keras $(run)
	touch $@

$(OUT)/bundles/emotion-ferplus/manifest.json: $(OUT)/emotion_second/done $(OUT)/copies.txt
	$(call export_run,emotion_second,ferplus)

$(OUT)/bundles/emotion-fer2013/manifest.json: $(OUT)/emotion_fer2013/done $(OUT)/copies.txt
	$(call export_run,emotion_fer2013,own)

$(OUT)/bundles/emotion-nano/manifest.json: $(OUT)/emotion_nano/done $(OUT)/copies.txt
	$(call export_run,emotion_nano,own)
